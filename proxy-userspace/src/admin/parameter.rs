//! Parameters of operations: their patterns, and examples.

/// A parameter.
#[derive(PartialEq, Debug)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    /// Its stand-in where paths are listed.
    pub(super) shown: &'static str,
    pub(super) in_query: bool,
    /// A regular expression (ECMA 262) that holds for every value that can be right.
    pub(super) pattern: &'static str,
    pub(super) example: &'static str,
    pub(super) description: &'static str,
}

pub(super) const NAME: Parameter = Parameter {
    name: "name",
    shown: "NAME",
    in_query: false,
    pattern: "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
    example: "web",
    description: "The cluster's name.",
};

/// Exact for IPv4 and ports; brackets may hold what is no IPv6 address.
const ADDRESS_PATTERN: &str = concat!(
    r"^((25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(\.(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])){3}",
    r"|\[[0-9A-Fa-f:.]{2,45}\])",
    r":(0|[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$",
);

pub(super) const ADDRESS: Parameter = Parameter {
    name: "address",
    shown: "ADDR",
    in_query: false,
    pattern: ADDRESS_PATTERN,
    example: "198.51.100.1:80",
    description: "The endpoint: IP:PORT, for IPv6 [IP]:PORT.",
};

pub(super) const FLOW: [Parameter; 4] = [
    Parameter {
        name: "protocol",
        shown: "PROTOCOL",
        in_query: false,
        pattern: "^(tcp|udp)$",
        example: "tcp",
        description: "The flow's protocol.",
    },
    Parameter {
        name: "client",
        shown: "CLIENT",
        in_query: false,
        pattern: ADDRESS_PATTERN,
        example: "198.51.100.7:4711",
        description: "The client: IP:PORT, for IPv6 [IP]:PORT.",
    },
    Parameter {
        name: "vip",
        shown: "VIP",
        in_query: false,
        pattern: ADDRESS_PATTERN,
        example: "192.0.2.53:53",
        description: "The VIP that it sends to: IP:PORT, for IPv6 [IP]:PORT.",
    },
    Parameter {
        name: "connection_id",
        shown: "HEX",
        in_query: true,
        pattern: "^([0-9A-Fa-f]{2}){1,20}$",
        example: "07a1b2c3d4e5f607",
        description: "The destination connection ID of a QUIC packet.",
    },
];
