//! The page for browsers: files of `pages/` as they are, in the binary. They hold nothing secret, so that whoever asks gets them;
//! what they show, they ask for with a token like anybody else.

use super::answer::{Answer, wrong_method};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response,
    header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS,
    },
};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Nothing but what is served here is loaded, run or asked, and no page may put this one into a frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// For all files. `no-cache`: after an upgrade the browser has the new ones.
const HEADERS: [(HeaderName, &str); 4] = [
    (CONTENT_SECURITY_POLICY, POLICY),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-cache"),
];

/// A script of the folder.
macro_rules! script {
    ($name:literal) => {
        (
            concat!("/page/", $name),
            SCRIPT,
            include_str!(concat!("pages/", $name)),
        )
    };
}

/// Path, media type and text.
const FILES: [(&str, &str, &str); 14] = [
    ("/", HTML, include_str!("pages/index.html")),
    ("/page/page.css", CSS, include_str!("pages/page.css")),
    script!("main.js"),
    script!("api.js"),
    script!("change.js"),
    script!("charts.js"),
    script!("cluster.js"),
    script!("dom.js"),
    script!("endpoint.js"),
    script!("figures.js"),
    script!("overview.js"),
    script!("samples.js"),
    script!("states.js"),
    script!("topology.js"),
];

/// The file of a path, if it is one's.
pub(super) fn answer<B>(request: &Request<B>) -> Option<Answer> {
    let path = request.uri().path();
    let (_, media, text) = FILES.iter().find(|(of_file, ..)| *of_file == path)?;
    if request.method() != Method::GET {
        return Some(wrong_method(request.method().as_str(), path, "GET"));
    }
    let mut answer = Response::new(Full::from(Bytes::from_static(text.as_bytes())));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, fs, path::Path};

    #[test]
    fn every_file_of_the_folder_is_served_and_names_only_such() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin/pages");
        let entries = fs::read_dir(folder).unwrap();
        let there: BTreeSet<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let name = |path: &str| match path.rsplit('/').next() {
            Some("") | None => "index.html".to_owned(),
            Some(name) => name.to_owned(),
        };
        let served: BTreeSet<String> = FILES.iter().map(|(path, ..)| name(path)).collect();
        assert_eq!(served, there);
        for (path, _, text) in FILES {
            let imported = text.split("from \"./").skip(1);
            for file in imported.filter_map(|rest| rest.split('"').next()) {
                assert!(there.contains(file), "{path} imports {file}");
            }
            for word in ["http://", "https://", "//cdn", "style=\"", "onclick", "innerHTML"] {
                let text = text.replace("http://www.w3.org/2000/svg", "");
                assert!(!text.contains(word), "{path} has {word}");
            }
        }
    }
}
