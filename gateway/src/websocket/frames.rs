//! Frames of the other end, taken apart where they lie: what is left of a read are the bytes of
//! MQTT.
//!
//! ```text
//!   as read:  | head | payload, masked | head | ping | head | pay
//!   as left:  | payload | pay
//! ```
//! Frames and packets have nothing to do with each other: a packet may span frames, and a frame may
//! hold several packets. So no frame is ever kept whole, however long it says it is: its payload
//! goes on as it comes. Kept between two reads are the beginning of a head and of a control frame,
//! [`HEAD_BYTES_MAX`] and [`CONTROL_BYTES_MAX`] at most. Section numbers are those of RFC 6455. It
//! reads and writes no socket, and does not look at MQTT.

use std::io::Cursor;

use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{CloseCode, Control, Data, OpCode},
};

/// Longest head of a frame, in bytes: section 5.2.
const HEAD_BYTES_MAX: usize = 14;
/// Longest payload of a control frame, in bytes: section 5.5.
pub const CONTROL_BYTES_MAX: usize = 125;
/// The most significant bit of a length has to be 0: section 5.2.
const FRAME_BYTES_MOST: u64 = i64::MAX as u64;

/// Which end this is: a client masks all that it sends, and a server nothing. (Section 5.1)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It was connected to.
    Server,
    /// It connected.
    Client,
}

/// What the other end may not send. Nothing behind it is looked at, and the connection is closed
/// with [`Violation::code`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("it sends text, and MQTT is in binary frames")]
    Text,
    #[error("a frame is not masked")]
    Unmasked,
    #[error("a frame is masked, and a server masks none")]
    Masked,
    #[error("a frame has reserved bits set: it uses an extension that was not agreed on")]
    Reserved,
    #[error("a frame is of no known kind")]
    Opcode,
    #[error("the length of a frame is written as none may be")]
    Length,
    #[error("a control frame is longer than {CONTROL_BYTES_MAX} bytes or split")]
    Control,
    #[error("a message begins inside another one, or goes on without a beginning")]
    Sequence,
    #[error("a close frame has a code that none may have")]
    CloseCode,
    #[error("the reason in a close frame is not UTF-8")]
    CloseReason,
}

impl Violation {
    /// The code of the close frame that answers it: section 7.4.1.
    pub fn code(self) -> CloseCode {
        match self {
            Violation::Text => CloseCode::Unsupported,
            Violation::CloseReason => CloseCode::Invalid,
            _ => CloseCode::Protocol,
        }
    }

    /// The label of the metric.
    pub fn label(self) -> &'static str {
        match self {
            Violation::Text => "text",
            Violation::Unmasked => "unmasked",
            Violation::Masked => "masked",
            Violation::Reserved => "reserved_bits",
            Violation::Opcode => "opcode",
            Violation::Length => "frame_length",
            Violation::Control => "control_frame",
            Violation::Sequence => "sequence",
            Violation::CloseCode => "close_code",
            Violation::CloseReason => "close_reason",
        }
    }
}

/// Why nothing more is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The other end closed the connection below, or that broke.
    Lost,
    /// A close frame, with its code if it has one.
    Closed(Option<CloseCode>),
    /// The other end broke the rules.
    Violation(Violation),
}

/// What a frame is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data,
    Ping,
    Pong,
    Close,
}

/// A frame whose payload comes.
#[derive(Debug)]
struct Frame {
    kind: Kind,
    /// Bytes of it that are to come.
    left: u64,
    /// As it is to be used for the next byte.
    mask: [u8; 4],
}

/// What frames are taken apart with.
#[derive(Debug)]
pub struct Frames {
    role: Role,
    head: [u8; HEAD_BYTES_MAX],
    /// How much of a head has come.
    head_bytes: usize,
    frame: Option<Frame>,
    /// A message was begun, and its last frame has not come.
    in_message: bool,
    /// The payload of a ping or close frame, as far as it has come.
    control: Vec<u8>,
    /// The last ping that was not answered.
    ping: Option<Vec<u8>>,
}

impl Frames {
    /// For this end, before anything was read.
    pub fn new(role: Role) -> Self {
        Frames {
            role,
            head: [0; HEAD_BYTES_MAX],
            head_bytes: 0,
            frame: None,
            in_message: false,
            control: Vec::new(),
            ping: None,
        }
    }

    /// Takes what was read, and leaves MQTT's bytes at its start. Gives how many these are, and
    /// what ended the input.
    pub fn take(&mut self, bytes: &mut [u8]) -> (usize, Option<End>) {
        let (mut at, mut kept) = (0, 0);
        loop {
            let Some(frame) = &mut self.frame else {
                if at == bytes.len() {
                    return (kept, None);
                }
                match self.take_head(&bytes[at..]) {
                    Ok(taken) => at += taken,
                    Err(violation) => return (kept, Some(End::Violation(violation))),
                }
                continue;
            };
            let here = usize::try_from(frame.left).unwrap_or(usize::MAX).min(bytes.len() - at);
            let payload = at..at + here;
            if self.role == Role::Server {
                apply_mask(&mut bytes[payload.clone()], &mut frame.mask);
            }
            frame.left -= here as u64;
            at += here;
            match frame.kind {
                Kind::Data => {
                    bytes.copy_within(payload, kept);
                    kept += here;
                }
                Kind::Ping | Kind::Close => self.control.extend_from_slice(&bytes[payload]),
                Kind::Pong => {}
            }
            if frame.left > 0 {
                return (kept, None);
            }
            let kind = frame.kind;
            self.frame = None;
            match kind {
                Kind::Data | Kind::Pong => {}
                // Only the last one has to be answered: section 5.5.3.
                Kind::Ping => self.ping = Some(std::mem::take(&mut self.control)),
                Kind::Close => {
                    let end = judge_close(&self.control).map_or_else(End::Violation, End::Closed);
                    return (kept, Some(end));
                }
            }
        }
    }

    /// The payload of a ping that is to be answered.
    pub fn take_ping(&mut self) -> Option<Vec<u8>> {
        self.ping.take()
    }

    /// Takes a head or its beginning, and gives how many bytes of it were there.
    fn take_head(&mut self, bytes: &[u8]) -> Result<usize, Violation> {
        let had = self.head_bytes;
        let have = bytes.len().min(HEAD_BYTES_MAX - had);
        self.head[had..had + have].copy_from_slice(&bytes[..have]);
        let mut cursor = Cursor::new(&self.head[..had + have]);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| Violation::Opcode)?;
        let Some((header, length)) = parsed else {
            self.head_bytes = had + have;
            return Ok(have);
        };
        let head_bytes = cursor.position() as usize;
        let (kind, mask) = judge(&header, head_bytes, length, self.in_message, self.role)?;
        if kind == Kind::Data {
            self.in_message = !header.is_final;
        }
        self.frame = Some(Frame { kind, left: length, mask });
        self.head_bytes = 0;
        Ok(head_bytes - had)
    }
}

/// Whether the other end may send a frame with this head of `head_bytes`: what it is for, and its
/// mask.
fn judge(
    header: &FrameHeader,
    head_bytes: usize,
    length: u64,
    in_message: bool,
    role: Role,
) -> Result<(Kind, [u8; 4]), Violation> {
    if header.rsv1 || header.rsv2 || header.rsv3 {
        return Err(Violation::Reserved);
    }
    let mask = match (role, header.mask) {
        (Role::Server, Some(mask)) => mask,
        (Role::Server, None) => return Err(Violation::Unmasked),
        (Role::Client, Some(_)) => return Err(Violation::Masked),
        (Role::Client, None) => [0; 4],
    };
    // With as few bytes as hold it: section 5.2.
    if length > FRAME_BYTES_MOST || head_bytes != header.len(length) {
        return Err(Violation::Length);
    }
    let kind = match header.opcode {
        OpCode::Data(Data::Text) => return Err(Violation::Text),
        OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_)) => {
            return Err(Violation::Opcode);
        }
        OpCode::Data(data) if in_message != (data == Data::Continue) => return Err(Violation::Sequence),
        OpCode::Data(_) => Kind::Data,
        OpCode::Control(_) if !header.is_final || length > CONTROL_BYTES_MAX as u64 => {
            return Err(Violation::Control);
        }
        OpCode::Control(Control::Ping) => Kind::Ping,
        OpCode::Control(Control::Pong) => Kind::Pong,
        OpCode::Control(Control::Close) => Kind::Close,
    };
    Ok((kind, mask))
}

/// The code in a close frame: section 5.5.1.
fn judge_close(payload: &[u8]) -> Result<Option<CloseCode>, Violation> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(Violation::CloseCode) };
    };
    let code = CloseCode::from(u16::from_be_bytes(*code));
    if !code.is_allowed() {
        return Err(Violation::CloseCode);
    }
    std::str::from_utf8(reason).map_err(|_| Violation::CloseReason)?;
    Ok(Some(code))
}

/// Takes the mask off or puts it on, and turns it to where the next byte is: section 5.3.
pub fn apply_mask(bytes: &mut [u8], mask: &mut [u8; 4]) {
    let (fours, rest) = bytes.as_chunks_mut::<4>();
    for four in fours {
        *four = (u32::from_ne_bytes(*four) ^ u32::from_ne_bytes(*mask)).to_ne_bytes();
    }
    rest.iter_mut().zip(*mask).for_each(|(byte, mask)| *byte ^= mask);
    let used = rest.len();
    mask.rotate_left(used);
}
