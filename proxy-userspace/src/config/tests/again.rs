//! A config that is read again is what it would be if it were read for the first time, whatever was changed in it.

use super::*;

/// Two listeners, routes in all forms, and something before, between and behind them.
fn config(random: &mut Random, routes: usize) -> String {
    let mut text = "# all forms of routes\nworkers: 2\nlisteners:\n".to_owned();
    for listener in 0..2 {
        text += &format!("  - name: web-{listener}\n    address: 0.0.0.0:808{listener}\n");
        if random.below(2) == 0 {
            text += "    max_connections: 100\n";
        }
        // As much as its key, or more.
        let indent = [" ".repeat(4), " ".repeat(6)][random.below(2)].clone();
        text += "    routes:\n";
        for number in 0..routes {
            text += &route(random, &indent, &format!("{listener}-{number}"));
        }
        text += "    timeouts: { request: 3s }\n";
    }
    text += "clusters:\n";
    for name in ["a", "b"] {
        text += &format!("  - name: {name}\n    endpoints: [\"192.0.2.1:80\", \"192.0.2.2:80\"]\n");
    }
    text
}

fn route(random: &mut Random, indent: &str, name: &str) -> String {
    let cluster = ["a", "b"][random.below(2)];
    match random.below(8) {
        0 => format!("{indent}- {{ match: {{ path_prefix: /{name}/ }}, cluster: {cluster} }}\n"),
        1 => format!(
            "{indent}- name: route-{name}\n{indent}  match: {{ path: /{name} }}\n{indent}  cluster: {cluster}\n"
        ),
        2 => format!(
            "{indent}- match:\n{indent}    host: h{name}.example.com\n\n{indent}    # a comment\n{indent}  cluster: {cluster} # another\n"
        ),
        3 => format!(
            "{indent}- match: {{ path: /{name} }}\n{indent}  respond:\n{indent}    status: 200\n{indent}    body: |\n{indent}      - not a route\n\n{indent}      {name}\n"
        ),
        4 => format!(
            "{indent}- match: {{ path_prefix: \"/{name}\" }}\n{indent}  respond: {{ status: 404, body: \"two\n{indent}   lines\" }}\n"
        ),
        5 => format!(
            "{indent}- {{ match: {{ path_regex: '/{name}/[0-9]+' }},\n{indent}    clusters: [{{ cluster: a, weight: 9 }}, {{ cluster: b }}] }}\n"
        ),
        6 => format!(
            "# at the margin\n{indent}- redirect: {{ scheme: https }}\n{indent}  match: {{ host: \"*.{name}.example.com\" }}\n"
        ),
        _ => format!(
            "{indent}- match:\n{indent}    methods:\n{indent}    - GET\n{indent}    - POST\n{indent}    path: /{name}\n{indent}  cluster: {cluster}\n{indent}  timeouts: {{ request: 9s }}\n"
        ),
    }
}

/// What may come in the place of a key's colon.
const ACCIDENTS: &[&str] = &[": &a ", ": \"", ": [", ": |\n", ":\n"];

/// A change as somebody makes it, or as an accident does.
fn edited(random: &mut Random, text: &str) -> String {
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    for _ in 0..=random.below(2) {
        let at = random.below(lines.len());
        match random.below(14) {
            0 => drop(lines.remove(at)),
            1 => lines.insert(at, lines[random.below(lines.len())].clone()),
            2 | 10..=13 => lines[at] = lines[at].replace(['1', '3', '9'], "7"),
            3 => lines[at] = format!(" {}", lines[at]),
            4 => lines[at] = lines[at].trim_start().to_owned(),
            5 => {
                let count = random.below(8).min(lines.len() - at);
                let moved: Vec<String> = lines.drain(at..at + count).collect();
                let to = random.below(lines.len() + 1);
                drop(lines.splice(to..to, moved));
            }
            6 => {
                let indent = " ".repeat(4 + 2 * random.below(2));
                let number = random.below(1_000_000);
                lines.insert(at, route(random, &indent, &format!("new-{number}")));
            }
            7 => lines.insert(at, "    # a new comment\n".to_owned()),
            8 => lines[at] = changed(random, &lines[at], std::slice::from_ref(&"- x\n".to_owned())),
            _ => {
                let instead = random.pick(ACCIDENTS);
                lines[at] = lines[at].replacen(": ", instead, 1);
            }
        }
        if lines.is_empty() {
            break;
        }
    }
    lines.concat()
}

/// `WEIR_FUZZ_CONFIGS=100000` asks for more changes.
#[test]
fn a_config_that_is_read_again_is_what_it_says() {
    let count: usize = env::var("WEIR_FUZZ_CONFIGS")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(600);
    let schema = schema();
    let mut random = Random(0x4147_4149_4e21);
    let (mut from_before, mut refused) = (0, 0);
    for _ in 0..count / 20 {
        let mut text = config(&mut random, 70);
        let (_, mut known) = read_text(&text, &schema, None).outcome.unwrap();
        for _ in 0..20 {
            let new = edited(&mut random, &text);
            let whole = read_text(&new, &schema, None).outcome;
            let is_short = known.shorten(&PathBuf::from("fuzz.yaml"), &new).is_some();
            let reading = read_text(&new, &schema, Some(&known));
            if !reading.is_sure {
                refused += usize::from(whole.is_err());
                assert!(is_short);
                if let Ok((_, whole)) = whole {
                    (text, known) = (new, whole);
                }
                continue;
            }
            match (whole, reading.outcome) {
                (Ok((whole, whole_known)), Ok((loaded, now_known))) => {
                    assert!(loaded == whole, "{text}\n-- became --\n{new}");
                    assert!(now_known == whole_known, "{text}\n-- became --\n{new}");
                    from_before += usize::from(is_short);
                    (text, known) = (new, now_known);
                }
                (Err(whole), Err(errors)) => assert_eq!(whole, errors),
                (whole, again) => panic!(
                    "{:?} whole, {:?} again:\n{text}\n-- became --\n{new}",
                    whole.map(|_| ()),
                    again.map(|_| ())
                ),
            }
        }
    }
    assert!(
        from_before > count / 4 && refused > count / 4,
        "{from_before} from before, {refused} refused"
    );
}

/// What a route's text means may hang on what stands elsewhere.
#[test]
fn routes_are_read_whole_where_more_than_their_text_counts() {
    let schema = schema();
    let route = |number| {
        // None of those that are read beside what is left out.
        let slashes = if (10..90).contains(&number) { "//" } else { "/" };
        format!("      - {{ match: {{ path: /a{slashes}{number} }}, cluster: a }}\n")
    };
    let routes: String = (0..100).map(route).collect();
    let text = |before: &str, first: &str| {
        format!(
            "listeners:\n  - name: web\n    address: 0.0.0.0:8080\n{before}    routes:\n      - {first}\n{routes}\
             clusters: [{{ name: a, endpoints: [\"192.0.2.1:80\"] }}, {{ name: b, endpoints: [\"192.0.2.2:80\"] }}]\n"
        )
    };
    let first = "{ match: { path: /first }, cluster: b }";
    let (_, known) = read_text(&text("", first), &schema, None).outcome.unwrap();
    let cases = [
        ("    via: weir\n", first, true),
        ("", "{ match: { path: /second }, cluster: b }", true),
        // A path with two slashes is a mistake then.
        ("    path: { merge_slashes: true }\n", first, false),
        // It is a warning that they are never reached.
        ("", "{ cluster: b }", false),
    ];
    for (before, first, is_sure) in cases {
        let text = text(before, first);
        let short = known.shorten(&PathBuf::from("fuzz.yaml"), &text).unwrap();
        assert!(short.text.len() < text.len() / 4, "{}", short.text);
        assert_eq!(
            read_text(&text, &schema, Some(&known)).is_sure,
            is_sure,
            "{before}{first}"
        );
    }
    // What an anchor stands for would be looked for in vain.
    let anchored = text("", "{ match: &first { path: /first }, cluster: b }");
    let (_, known) = read_text(&anchored, &schema, None).outcome.unwrap();
    assert!(known.shorten(&PathBuf::from("fuzz.yaml"), &anchored).is_none());
}
