//! Access logs: where to, and whether the templates can be read.

use super::{Checks, Place};
use crate::{
    config::{error::Mistake, raw, suggest::shown},
    l7::log::Template,
    model::l7::{AccessLog, LogFormat, LogTarget},
};
use std::path::Path;

/// A line where nothing else is typed: what Envoy writes, without what Weir has no equal of.
const TEXT: &str = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% \
                    %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \
                    \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"";

/// The same for a TCP listener.
const TCP_TEXT: &str = "[%START_TIME%] %DOWNSTREAM_REMOTE_ADDRESS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% \
                        \"%UPSTREAM_HOST%\" %RESPONSE_FLAGS%";

/// The members of a JSON object where nothing else is typed.
const JSON: [(&str, &str); 14] = [
    ("start_time", "%START_TIME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("status", "%RESPONSE_CODE%"),
    ("flags", "%RESPONSE_FLAGS%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("client", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream", "%UPSTREAM_HOST%"),
];

/// `http` is whether the listener speaks HTTP.
pub(super) fn read(
    typed: &raw::AccessLog,
    place: &Place<'_>,
    http: bool,
    checks: &mut Checks<'_>,
) -> Option<AccessLog> {
    let path_place = place.key("path");
    let target = typed
        .path
        .as_ref()
        .and_then(|typed| target(&typed.0, &path_place, checks));
    let form = typed
        .format
        .unwrap_or(if typed.json.is_some() && typed.text.is_none() {
            raw::LogForm::Json
        } else {
            raw::LogForm::Text
        });
    let unused = match form {
        raw::LogForm::Text => typed.json.is_some().then_some("json"),
        raw::LogForm::Json => typed.text.is_some().then_some("text"),
    };
    if let Some(unused) = unused {
        let problem = format!("`{unused}` means nothing to a log of the other format");
        checks.error(
            &place.key(unused),
            problem,
            format!("remove it, or write `format: {unused}`"),
        );
    }
    let format = match form {
        raw::LogForm::Text => LogFormat::Text(text(typed, &place.key("text"), http, checks)),
        raw::LogForm::Json => LogFormat::Json(json(typed, &place.key("json"), checks)),
    };
    Some(AccessLog {
        target: target?,
        format,
    })
}

fn target(typed: &str, place: &Place<'_>, checks: &mut Checks<'_>) -> Option<LogTarget> {
    if typed == "/dev/stdout" {
        return Some(LogTarget::Stdout);
    }
    let path = Path::new(typed);
    if !path.is_absolute() {
        let problem = format!("{} is not an absolute path", shown(typed));
        checks.error(place, problem, "write it from the root, or /dev/stdout");
        return None;
    }
    if typed.ends_with('/') || path.is_dir() {
        let problem = format!("{} is a directory", shown(typed));
        checks.error(place, problem, "add the file's name");
        return None;
    }
    Some(LogTarget::File(path.into()))
}

fn text(
    typed: &raw::AccessLog,
    place: &Place<'_>,
    http: bool,
    checks: &mut Checks<'_>,
) -> std::sync::Arc<str> {
    let default = if http { TEXT } else { TCP_TEXT };
    let Some(typed) = &typed.text else {
        return default.into();
    };
    checks.parsed(place, template(&typed.0));
    typed.0.as_str().into()
}

fn json(
    typed: &raw::AccessLog,
    place: &Place<'_>,
    checks: &mut Checks<'_>,
) -> std::sync::Arc<[(Box<str>, Box<str>)]> {
    let Some(typed) = &typed.json else {
        let traced = checks.traces.then_some(("trace_id", "%TRACE_ID%"));
        let members = JSON.into_iter().chain(traced);
        return members.map(|(key, text)| (key.into(), text.into())).collect();
    };
    let mut members = Vec::new();
    for (key, text) in typed.iter() {
        checks.parsed(&place.key(key), template(text));
        members.push((key.into(), text.into()));
    }
    members.into()
}

/// Whether a text's operators can be read.
fn template(typed: &str) -> Result<(), Mistake> {
    Template::parse(typed).map(drop).map_err(|wrong| {
        let otherwise = "write operators such as %RESPONSE_CODE% or %REQ(user-agent)%";
        let (problem, remedy) = wrong.split_once("; ").unwrap_or((&wrong, otherwise));
        Mistake::new(format!("{}: {problem}", shown(typed)), remedy)
    })
}
