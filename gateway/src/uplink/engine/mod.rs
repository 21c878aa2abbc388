//! What an engine is: how delivery hands messages to an upstream and hears what became of them.
//!
//! ```text
//!  Engine ── connect ──▶ Connection, Capabilities
//!
//!  delivery ── send(token, message) ──▶ ┌────────────┐
//!           ── poll ───── progress ──── │ Connection │ ◀──▶ upstream
//!           ◀── answer: tokens, verdict └────────────┘
//! ```
//! An engine is one folder with its settings, its handshake, what it sends and what it reads. It
//! keeps nothing from one connection to the next: what was in flight when a connection ends is sent
//! again by delivery, in the order of the log. It decides nothing either: it says what the upstream
//! said, and delivery judges.
//!
//! **Tokens.** Delivery numbers what it sends on a connection, in rising order and with gaps. An
//! engine gives the tokens back with the upstream's answer, as ranges: a PUBACK or the
//! acknowledgement of one message is a range of one, that of a batch or a cumulative one is longer.
//! A range may hold tokens that were never sent. Answers may come in any order, and each token is
//! answered once at most.
//!
//! Nothing here is called through `dyn`: delivery is compiled for each engine.

pub mod dial;
mod lost;
pub mod mqtt;
pub mod nats;
pub mod password;
pub mod transport;
pub mod upstream;
pub mod url;

pub use self::lost::{Lost, Notice, Refusal, SOON, Silence};

use std::{
    error::Error,
    fmt,
    future::Future,
    num::NonZeroU16,
    task::{Context, Poll},
    time::Duration,
};

use self::{
    dial::{Dialer, Layers},
    password::PasswordSource,
    url::Scheme,
};
use super::{
    message::{Message, Unsendable, Will},
    platform::Platform,
};

/// What an upstream is and how it is reached: the settings of one engine.
pub trait Engine: fmt::Debug + Clone + Send + Sync + 'static {
    /// A connection after its handshake.
    type Connection: Connection;

    /// The schemes of the engine's URLs. What is said of the engine names the first.
    const SCHEMES: &'static [Scheme];

    /// The upstream throws a client out for another one of the same name.
    const ONE_CLIENT_OF_A_NAME: bool;

    /// Why settings cannot work.
    type Invalid: Error;

    /// Checks what can be checked without an upstream.
    ///
    /// # Errors
    /// [`Engine::Invalid`] names the first thing that cannot work.
    fn check(&self) -> Result<(), Self::Invalid>;

    /// The scheme of its URL.
    fn scheme(&self) -> &'static str;

    /// Host and port, for the log and for those who look.
    fn address(&self) -> (&str, u16);

    /// As whom it connects.
    fn credentials(&self) -> Credentials<'_>;

    /// What lies between TCP and its protocol.
    fn layers(&self) -> &Layers;

    /// Makes a second client beside the first, which it does not throw out: `suffix` goes behind
    /// the name.
    fn rename(&mut self, suffix: &str);

    /// Has each connection from now on leave this behind when the upstream loses it, if that can
    /// be told.
    fn set_will(&mut self, will: Option<Will>) {
        let _ = will;
    }

    /// What it may mean that a connection ended without a word.
    fn hint(&self, silence: Silence) -> Option<String> {
        let _ = silence;
        None
    }

    /// Has `dialer` make the way, shakes hands by [`Dialer::handshake`], and checks what can be
    /// checked before anything is sent. Delivery limits the time. It is dropped where it stands
    /// when that is over.
    fn connect(&self, dialer: &mut Dialer) -> impl Future<Output = Opened<Self::Connection>> + Send;
}

/// As whom a client connects.
#[derive(Debug, Clone, Copy)]
pub struct Credentials<'a> {
    /// The name by which the upstream knows this client.
    pub client_id: &'a str,
    /// Its user, if it has one.
    pub user: Option<&'a str>,
    /// Where its password comes from, if it has one.
    pub password: Option<&'a PasswordSource>,
}

/// A connection and what may be done with it, or why there is none.
pub type Opened<C> = Result<(C, Capabilities), Lost>;

/// What is the same for every engine: where to, and as whom.
#[derive(Debug)]
pub struct Client<'a> {
    /// The upstream's host name or address.
    pub host: &'a str,
    /// Its port.
    pub port: u16,
    /// What lies between.
    pub layers: Layers,
    /// The name by which the upstream knows this client.
    pub client_id: String,
    /// What is this uplink's and no other's, whatever its client is called.
    pub uplink: String,
    /// The user, if the upstream asks for one.
    pub user: Option<String>,
    /// Where the password comes from.
    pub password: Option<PasswordSource>,
    /// How long a connection lasts, at the most, before it is made anew.
    pub renew: Option<Duration>,
    /// What is known of the upstream's limits.
    pub platform: &'static Platform,
}

/// What the upstream allows on a connection, and what its engine can carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Messages that may be in flight.
    pub in_flight_max: NonZeroU16,
    /// [`Connection::ping`] is called after this long without anything sent; zero is never.
    pub keep_alive: Duration,
    /// The upstream keeps the last message of a topic for whoever comes later, if
    /// [`Message::retain`] is set.
    pub retains: bool,
    /// Messages carry headers. Where they do not, [`Message::headers`] is empty, and what a format
    /// says beside the payload has to be in it.
    pub has_headers: bool,
    /// What stands before the name of a CloudEvents attribute where it is a header.
    pub attribute_prefix: &'static str,
}

/// A connection after its handshake. Nothing but [`Connection::poll`] and [`Connection::close`]
/// waits.
pub trait Connection: Send {
    /// Whether `message` can be sent to this upstream at all.
    ///
    /// # Errors
    /// [`Unsendable`]: it never can.
    fn check(&mut self, message: &Message<'_>) -> Result<(), Unsendable>;

    /// Appends `message` to what is to be written. `token` is above all before it. Delivery asked
    /// [`Connection::has_room`] first; one message more than there is room for has to be taken.
    ///
    /// # Errors
    /// [`Unsendable`], as [`Connection::check`]: nothing of it was appended, and its token is never
    /// answered.
    fn send(&mut self, token: u64, message: &Message<'_>) -> Result<(), Unsendable>;

    /// Whether more is to be appended before the next write.
    fn has_room(&self) -> bool;

    /// Something was appended and is not yet written.
    fn has_unwritten(&self) -> bool;

    /// Moves bytes in both directions. Ready when something moved; pending only after the waker was
    /// registered for both directions. Cancel-safe: what moved is in the connection's buffers.
    ///
    /// # Errors
    /// [`Lost`], after all that came before was given by [`Connection::answer`].
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Progress, Lost>>;

    /// What the upstream says next, of what was read; `None` when there is no more.
    ///
    /// # Errors
    /// [`Lost`]: nothing after this point can be read. What was given before holds.
    fn answer(&mut self) -> Result<Option<Answer>, Lost>;

    /// What the upstream said that it grants, for the log; empty if nothing.
    fn granted(&self) -> &str {
        ""
    }

    /// Appends what the upstream answers once it has read all before it: an [`Answer::Pong`] for
    /// each.
    fn ping(&mut self);

    /// Says goodbye, writes what is not yet written, and closes. Delivery limits the time, and does
    /// not ask whether it went well.
    fn close(&mut self) -> impl Future<Output = ()> + Send;
}

/// What a poll moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes came in: there may be answers.
    pub read: bool,
    /// Bytes went out.
    pub written: bool,
}

/// What the upstream said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// What it makes of the messages with these tokens.
    Settled(TokenRange, Verdict),
    /// It answered something, under this name of its own, that was never sent.
    Stray(u64),
    /// The answer to the oldest ping that is not answered.
    Pong,
}

/// Tokens from `first` to before `end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenRange {
    /// The first of them.
    pub first: u64,
    /// The one behind the last.
    pub end: u64,
}

/// What the upstream makes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It has it, as durably as it keeps anything.
    Accepted,
    /// It had it before, and dropped the copy. That says nothing of what it takes now.
    Duplicate,
    /// It will never take it.
    Rejected(Refusal),
    /// It does not take it now: the same message may be taken later.
    Retry(Refusal),
}

impl TokenRange {
    /// A range of one.
    #[must_use]
    pub const fn one(token: u64) -> Self {
        Self { first: token, end: token + 1 }
    }

    /// Whether `token` is one of them.
    #[must_use]
    pub const fn contains(self, token: u64) -> bool {
        self.first <= token && token < self.end
    }
}
