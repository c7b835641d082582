//! What `GET /flows/PROTOCOL/CLIENT/VIP[?connection_id=HEX]` answers: shared by the daemon, the command line and the tests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a flow goes, and why.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct FlowAnswer {
    /// The listener's name.
    pub service: String,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// IP and port.
    pub client: String,
    /// IP and port.
    pub vip: String,
    /// The backend that its next packet reaches; null when it is dropped.
    pub goes_to: Option<String>,
    /// What decides.
    pub reason: String,
    /// What the hash says.
    pub slot: FlowSlot,
    /// Whom the connection ID names; null where none was asked about, or it names nobody that lives.
    pub named: Option<FlowBackend>,
    /// Whom the client's new flows go to by its affinity; null where the service has none, or the client opened none of late.
    pub affinity: Option<FlowAffinity>,
    /// What the flow table says; null where it has no entry.
    pub entry: Option<FlowEntry>,
}

/// A slot of a service's Maglev table.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct FlowSlot {
    /// From 0.
    pub number: u32,
    /// Slots of the table.
    pub of: u32,
    /// Whom it gives new flows; null in a table without endpoints.
    pub backend: Option<FlowBackend>,
    /// `plain`, `moving` (flows without an entry that aren't new are `previous`'s) or `tracked` (some flows have entries).
    pub state: String,
    /// Whom a moving slot gave flows before.
    pub previous: Option<FlowBackend>,
}

/// A client's affinity.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct FlowAffinity {
    /// Whom its new flows go to.
    pub backend: FlowBackend,
    /// Since its last flow was opened.
    pub age_seconds: f64,
}

/// A backend.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct FlowBackend {
    /// IP and port.
    pub address: String,
    /// `live`, `draining` (keeps its flows), `dead` or `gone`.
    pub state: String,
}

/// An entry of the flow table.
#[derive(Clone, PartialEq, Serialize, Deserialize, JsonSchema, Debug)]
pub struct FlowEntry {
    /// Who has the flow.
    pub backend: FlowBackend,
    /// Source that its packets get, IP and port.
    pub source: String,
    /// Destination that its packets get, IP and port.
    pub destination: String,
    /// `opening`, `established` or `closing`.
    pub stage: String,
    /// Since the last packet in either direction.
    pub idle_seconds: f64,
}
