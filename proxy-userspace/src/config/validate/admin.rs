//! The admin API: its socket, its address and who may come in there, and what it keeps.

use super::{
    Checks, Document, Place, elements,
    settings::{absolute_path, only_one},
    tls,
};
use crate::{
    config::{error::Mistake, limits, raw, suggest::shown},
    model::{
        AdminToken, DaemonSettings, RemoteAdmin,
        l7::{ClientAuth, ClientAuthMode, ServerTls, TlsVersion},
    },
};
use aws_lc_rs::digest;
use std::{
    collections::HashMap,
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Shortest token: what fewer characters hold can be tried out.
const SHORTEST_TOKEN: usize = 16;

pub(super) fn read(documents: &[Document], settings: &mut DaemonSettings, checks: &mut Checks<'_>) {
    if let Some((place, admin)) = only_one(documents, "admin", |raw| raw.admin.as_ref(), checks) {
        if let Some(socket) = &admin.socket
            && let Some(path) = checks.parsed(&place.key("socket"), socket_path(&socket.0))
        {
            settings.admin_socket = path;
        }
        if let Some(typed) = &admin.audit_log {
            settings.admin.audit_log = checks.parsed(
                &place.key("audit_log"),
                absolute_path(&typed.0, "/var/log/weir/audit.log"),
            );
        }
        settings.admin.remote = remote(admin, &place, checks);
    }
    let typed = only_one(
        documents,
        "state_directory",
        |raw| raw.state_directory.as_ref(),
        checks,
    );
    let typed = typed.and_then(|(place, typed)| {
        checks.parsed(&place, absolute_path(&typed.0, DaemonSettings::STATE_DIRECTORY))
    });
    settings.admin.state_directory =
        typed.unwrap_or_else(|| DaemonSettings::default_state_directory(&settings.admin_socket));
}

/// The API over TCP, if it is to be there: never without a way to know who asks.
fn remote(admin: &raw::Admin, place: &Place<'_>, checks: &mut Checks<'_>) -> Option<RemoteAdmin> {
    let tokens = tokens(admin, place, checks);
    let tls = (admin.tls.as_ref()).map(|typed| tls_of(typed, &place.key("tls"), !tokens.is_empty(), checks));
    let address_place = place.key("address");
    let Some(typed) = &admin.address else {
        for (key, typed) in [("tls", admin.tls.is_some()), ("tokens", admin.tokens.is_some())] {
            if typed && !checks.blames_any(place, &["address"]) {
                let remedy = "add `address: 192.0.2.1:9900`, or take it out";
                checks.error(
                    &place.key(key),
                    "this is for TCP, and there is no `address`",
                    remedy,
                );
            }
        }
        return None;
    };
    let address = checks.parsed(&address_place, address_of(&typed.0))?;
    let has_ca = admin.tls.as_ref().is_some_and(|tls| tls.client_ca.is_some());
    if admin.tokens.is_none() && !has_ca && !checks.blames_any(place, &["tls", "tokens"]) {
        let remedy = "add `tokens: [{ name: ops, file: ops.token }]`, or `client_ca` to `tls`";
        checks.error(
            &address_place,
            "anybody who reaches this address could change everything",
            remedy,
        );
        return None;
    }
    if admin.tls.is_none() && !address.ip().is_loopback() && !checks.blames_any(place, &["tls"]) {
        let remedy = "add `tls: { cert: admin.pem, key: admin.key }`, or listen on 127.0.0.1";
        checks.error(
            &address_place,
            "tokens would go over the network for anybody in between to read",
            remedy,
        );
        return None;
    }
    let tls = match tls {
        Some(tls) => Some(Arc::new(tls?)),
        None => None,
    };
    Some(RemoteAdmin { address, tls, tokens })
}

fn address_of(typed: &str) -> Result<SocketAddr, Mistake> {
    let remedy = "write an address of this host and a port, such as 192.0.2.1:9900 or \"[2001:db8::1]:9900\"";
    match typed.parse::<SocketAddr>() {
        Ok(address) if address.port() != 0 => Ok(address),
        Ok(_) => Err(Mistake::new(format!("{} has port 0", shown(typed)), remedy)),
        Err(_) => Err(Mistake::new(
            format!("{} is no address and port", shown(typed)),
            remedy,
        )),
    }
}

fn tls_of(
    typed: &raw::AdminTls,
    place: &Place<'_>,
    has_tokens: bool,
    checks: &mut Checks<'_>,
) -> Option<ServerTls> {
    let client_auth = match &typed.client_ca {
        Some(typed) => Some(ClientAuth {
            ca: tls::authorities(typed, &place.key("client_ca"), checks)?,
            mode: if has_tokens {
                ClientAuthMode::Request
            } else {
                ClientAuthMode::Require
            },
        }),
        None => None,
    };
    let certificate = raw::Certificate {
        cert: typed.cert.clone(),
        key: typed.key.clone(),
    };
    Some(ServerTls {
        certificates: vec![tls::certificate(&certificate, place, checks)?],
        alpn: vec!["http/1.1".into()],
        min_version: TlsVersion::V1_2,
        client_auth,
        handshake_timeout: limits::HANDSHAKE,
    })
}

fn tokens(admin: &raw::Admin, place: &Place<'_>, checks: &mut Checks<'_>) -> Vec<AdminToken> {
    let mut tokens = Vec::new();
    let mut places: HashMap<&str, Place<'_>> = HashMap::new();
    for (place, typed) in elements(admin.tokens.as_ref(), place.key("tokens")) {
        let keys = [("file", typed.file.is_some()), ("sha256", typed.sha256.is_some())];
        checks.exactly_one(&place, &keys, "add `file: FILE` with the token in it");
        let Some(name) = &typed.name else { continue };
        if let Some(first) = places.get(name.0.as_str()) {
            let pointer = checks.pointer(&place, first);
            let problem = format!("{} stands {pointer} already", shown(&name.0));
            checks.error(
                &place.key("name"),
                problem,
                "give each its own name: the audit log has no other",
            );
        }
        places.insert(&name.0, place.clone());
        let sha256 = match (&typed.file, &typed.sha256) {
            (Some(file), None) => token_file(file, &place.key("file"), checks),
            (None, Some(typed)) => checks.parsed(&place.key("sha256"), hash_of(&typed.0)),
            _ => None,
        };
        if let Some(sha256) = sha256 {
            tokens.push(AdminToken {
                name: name.0.as_str().into(),
                sha256,
                read_only: typed.read_only == Some(true),
            });
        }
    }
    tokens
}

fn hash_of(typed: &str) -> Result<[u8; 32], Mistake> {
    let mut bytes = [0; 32];
    let digits: Option<Vec<u8>> = typed
        .chars()
        .map(|digit| digit.to_digit(16).map(|value| value as u8))
        .collect();
    let Some(digits) = digits.filter(|digits| digits.len() == 2 * bytes.len()) else {
        return Err(Mistake::new(
            format!("{} is no SHA-256", shown(typed)),
            "write 64 hexadecimal digits: printf %s TOKEN | sha256sum",
        ));
    };
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Ok(bytes)
}

/// The token's hash: the token itself is not kept.
fn token_file(typed: &raw::FilePath, place: &Place<'_>, checks: &mut Checks<'_>) -> Option<[u8; 32]> {
    let file = checks.file(place, typed)?;
    let private = file
        .path
        .as_deref()
        .map_or(Ok(()), |path| check_private(path, &typed.0));
    checks.parsed(place, private)?;
    let token = file.bytes.trim_ascii();
    let is_word = token.iter().all(u8::is_ascii_graphic);
    if token.len() < SHORTEST_TOKEN || !is_word {
        let problem = format!(
            "{} holds no token: one word of {SHORTEST_TOKEN} characters or more",
            shown(&typed.0)
        );
        checks.error(place, problem, "make one: openssl rand -hex 32");
        return None;
    }
    digest::digest(&digest::SHA256, token).as_ref().try_into().ok()
}

fn check_private(path: &Path, typed: &str) -> Result<(), Mistake> {
    const OTHERS: u32 = 0o077;
    let metadata = fs::metadata(path);
    match metadata.map(|metadata| metadata.permissions().mode()) {
        Ok(mode) if mode & OTHERS != 0 => Err(Mistake::new(
            format!(
                "{} may be used by others than its owner (mode {:03o})",
                shown(typed),
                mode & 0o777
            ),
            format!("chmod 600 {typed}; if others may have read it, make another token"),
        )),
        // One that went away since it was read is missed by the next reload.
        Ok(_) | Err(_) => Ok(()),
    }
}

fn socket_path(typed: &str) -> Result<PathBuf, Mistake> {
    let path = absolute_path(typed, limits::ADMIN_SOCKET)?;
    if typed.len() > limits::MAX_SOCKET_PATH {
        let problem = format!(
            "the path has {} bytes, and that of a UNIX socket at most {}",
            typed.len(),
            limits::MAX_SOCKET_PATH
        );
        return Err(Mistake::new(
            problem,
            format!("use a shorter one, such as {}", limits::ADMIN_SOCKET),
        ));
    }
    if typed.ends_with('/') {
        return Err(Mistake::new(
            format!("{} is a directory", shown(typed)),
            format!("add the socket's name: {typed}admin.sock"),
        ));
    }
    Ok(path)
}
