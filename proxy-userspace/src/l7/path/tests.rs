//! What becomes of paths: by example, and over random ones.

use super::*;

const STRICT: PathOptions = PathOptions {
    resolve_dot_segments: true,
    merge_slashes: false,
    encoded_slashes: EncodedSlashes::Reject,
};

fn every_option() -> Vec<PathOptions> {
    let mut options = Vec::new();
    for encoded_slashes in [
        EncodedSlashes::Reject,
        EncodedSlashes::Keep,
        EncodedSlashes::Decode,
    ] {
        for bits in 0..4 {
            options.push(PathOptions {
                resolve_dot_segments: bits & 1 != 0,
                merge_slashes: bits & 2 != 0,
                encoded_slashes,
            });
        }
    }
    options
}

#[test]
fn canonical_paths_are_borrowed() {
    for path in [
        "/",
        "/a",
        "/a/b.c/..d/.../e..",
        "/a%20b%25%C3%BC",
        "/a//b/",
        "/!$&'()*+,;=:@-._~",
        "/{x}[y]|^`\"<>",
        "/a;v=1/b,c",
    ] {
        assert!(
            matches!(canonical(path, &STRICT), Ok(Cow::Borrowed(same)) if same == path),
            "{path}: {:?}",
            canonical(path, &STRICT)
        );
    }
}

#[test]
fn other_forms_become_the_canonical_one() {
    let keep = PathOptions {
        encoded_slashes: EncodedSlashes::Keep,
        ..STRICT
    };
    let decode = PathOptions {
        encoded_slashes: EncodedSlashes::Decode,
        ..STRICT
    };
    let merge = PathOptions {
        merge_slashes: true,
        ..STRICT
    };
    let lax = PathOptions {
        resolve_dot_segments: false,
        ..STRICT
    };
    for (options, path, expected) in [
        (STRICT, "/%61%2d%7E%5f", "/a-~_"),
        (STRICT, "/%c3%bc%2b", "/%C3%BC%2B"),
        (STRICT, "/%2561", "/%2561"),
        (STRICT, "/a/./b/../c", "/a/c"),
        (STRICT, "/a/%2e%2E/b/%2e", "/b/"),
        (STRICT, "/a/.%2e/b", "/b"),
        (STRICT, "/a/b/..", "/a/"),
        (STRICT, "/a/.", "/a/"),
        (STRICT, "/.", "/"),
        (STRICT, "/a/..", "/"),
        (STRICT, "/a//../b", "/a/b"),
        (STRICT, "/a//..", "/a/"),
        (STRICT, "//..", "/"),
        (STRICT, "/./.", "/"),
        (STRICT, "/a/b/c/../../d", "/a/d"),
        (keep, "/a%2fb%5c", "/a%2Fb%5C"),
        (keep, "/a/..%2fb", "/a/..%2Fb"),
        (decode, "/a%2fb%5Cc", "/a/b/c"),
        (decode, "/a/b%2f..%2F..%2fc", "/c"),
        (decode, "/a/..%5cb", "/b"),
        (decode, "/a%252fb", "/a%252fb"),
        (merge, "//a///b//", "/a/b/"),
        (merge, "/a//../b", "/b"),
        (merge, "//.//a", "/a"),
        (lax, "/a/../%2e/b", "/a/.././b"),
        (lax, "/../a", "/../a"),
    ] {
        assert_eq!(
            canonical(path, &options).as_deref(),
            Ok(expected),
            "{path} {options:?}"
        );
    }
}

#[test]
fn what_is_refused() {
    let decode = PathOptions {
        encoded_slashes: EncodedSlashes::Decode,
        merge_slashes: true,
        ..STRICT
    };
    for (options, path, mistake) in [
        (STRICT, "", PathMistake::NotAbsolute),
        (STRICT, "*", PathMistake::NotAbsolute),
        (STRICT, "a/b", PathMistake::NotAbsolute),
        (STRICT, "/a b", PathMistake::Byte),
        (STRICT, "/a\tb", PathMistake::Byte),
        (STRICT, "/\x7f", PathMistake::Byte),
        (STRICT, "/ü", PathMistake::Byte),
        (STRICT, "/a?b", PathMistake::Byte),
        (STRICT, "/a#b", PathMistake::Byte),
        (STRICT, "/a\\b", PathMistake::Backslash),
        (STRICT, "/%", PathMistake::Encoding),
        (STRICT, "/%2", PathMistake::Encoding),
        (STRICT, "/%g1", PathMistake::Encoding),
        (STRICT, "/%+1", PathMistake::Encoding),
        (STRICT, "/%%34%31", PathMistake::Encoding),
        (STRICT, "/a%00", PathMistake::Nul),
        (STRICT, "/a%2Fb", PathMistake::EncodedSlash),
        (STRICT, "/a%5cb", PathMistake::EncodedSlash),
        (STRICT, "/..", PathMistake::LeavesRoot),
        (STRICT, "/a/../..", PathMistake::LeavesRoot),
        (STRICT, "/%2e%2e/a", PathMistake::LeavesRoot),
        (decode, "/..%2fa", PathMistake::LeavesRoot),
        (decode, "//..", PathMistake::LeavesRoot),
        (decode, "/a%00", PathMistake::Nul),
    ] {
        assert_eq!(canonical(path, &options), Err(mistake), "{path:?}");
    }
}

#[test]
fn of_random_paths_the_result_is_stable_and_clean() {
    let pieces = [
        "/", "/", "/", ".", "..", "%2e", "%2E", "%2f", "%5C", "%61", "%c3", "%25", "2e", "a", "B", "\\", "%",
        "%00", " ",
    ];
    let mut random = fastrand::Rng::with_seed(1);
    let mut accepted = 0;
    for _ in 0..20_000 {
        let mut path = String::from("/");
        for _ in 0..random.usize(0..8) {
            // Pieces that are refused are at the end, and seldom.
            let end = if random.u8(..) < 16 {
                pieces.len()
            } else {
                pieces.len() - 4
            };
            path += pieces[random.usize(..end)];
        }
        for options in every_option() {
            let Ok(first) = canonical(&path, &options) else {
                continue;
            };
            accepted += 1;
            let again = canonical(&first, &options);
            assert!(
                matches!(&again, Ok(Cow::Borrowed(same)) if *same == first),
                "{path} {options:?}: {first}, then {again:?}"
            );
            assert!(first.starts_with('/') && first.len() <= path.len());
            assert!(
                !(options.resolve_dot_segments && has_dot_segments(&first)),
                "{path}: {first}"
            );
            assert!(
                !(options.merge_slashes && first.contains("//")),
                "{path}: {first}"
            );
            let encoded = first.contains("%2F") || first.contains("%5C");
            assert!(
                !encoded || options.encoded_slashes == EncodedSlashes::Keep,
                "{path}: {first}"
            );
        }
    }
    assert!(accepted > 20_000, "{accepted}");
}
