//! What a client did against a platform's rules, by name.

/// One kind of mistake. What follows is the platform's affair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Breach {
    /// It speaks a version that the platform does not.
    Version,
    /// Its client id is empty, too long, or not its device's.
    ClientId,
    /// Its user name, its password or its token is wrong.
    Identity,
    /// Its token is over.
    TokenOver,
    /// It names no host, or another, in TLS (SNI).
    HostName,
    /// It does not offer the protocol that the port needs (ALPN).
    Protocol,
    /// The handshake of TLS failed: such as a client without a certificate.
    Handshake,
    /// It connects again too soon.
    ConnectRate,
    /// It takes sessions up with ever new client ids.
    Sessions,
    /// Its keep-alive is out of bounds.
    KeepAlive,
    /// Nothing came from it for one and a half times its keep-alive.
    Silence,
    /// User properties in CONNECT.
    ConnectUserProperties,
    /// QoS 2.
    Qos,
    /// RETAIN where there is none.
    Retain,
    /// A topic that is too long.
    TopicLength,
    /// A topic with too many levels.
    TopicDepth,
    /// A topic that it may not publish to.
    TopicDenied,
    /// A topic alias that it was not granted, or that stands for nothing.
    TopicAlias,
    /// A payload that is too long.
    Payload,
    /// More publishes or bytes per second than allowed.
    Rate,
    /// More publishes unacknowledged than allowed.
    Unacked,
    /// More bytes unacknowledged than allowed.
    UnackedBytes,
    /// Not MQTT, or out of turn.
    Malformed,
}
