//! Access logs.

use super::{AbsolutePath, Text, Texts};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

/// Where and how requests or connections are logged.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessLog {
    /// A file that lines are appended to, or `/dev/stdout`.
    #[schemars(with = "AbsolutePath", example = &"/dev/stdout")]
    pub(in crate::config) path: Option<AbsolutePath>,
    /// A line's form; by default `json` where `json` is given, else `text`.
    #[schemars(example = &"json", extend("default" = "text"))]
    pub(in crate::config) format: Option<LogForm>,
    /// A line of text, with operators such as `%RESPONSE_CODE%`.
    #[schemars(example = &"%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE%")]
    pub(in crate::config) text: Option<Text>,
    /// The members of a line's JSON object, with operators.
    #[schemars(example = json!({"status": "%RESPONSE_CODE%"}))]
    pub(in crate::config) json: Option<Texts>,
}

/// The form of a line.
#[derive(Deserialize, JsonSchema, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LogForm {
    /// Text.
    Text,
    /// A JSON object.
    Json,
}
