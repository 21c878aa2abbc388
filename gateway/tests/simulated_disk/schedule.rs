//! What was asked of the disk, and which of it fails.

use std::{collections::BTreeMap, fmt, io, sync::Arc};

/// "I/O error" of the system.
const EIO: i32 = 5;
/// "No space left on device" of the system.
const ENOSPC: i32 = 28;

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing is done: EIO.
    Io,
    /// Nothing is done: ENOSPC.
    NoSpace,
    /// Half of the bytes are written, a file is made that is not handed out; anything else is as
    /// [`Fault::Io`]. EIO.
    ShortWrite,
}

impl Fault {
    pub fn error(self) -> io::Error {
        no(match self {
            Fault::Io | Fault::ShortWrite => EIO,
            Fault::NoSpace => ENOSPC,
        })
    }
}

pub fn no_space() -> io::Error {
    no(ENOSPC)
}

fn no(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

/// What an operation is. Reading is none of them, it is counted for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Write,
    SetLen,
    Sync,
    Open,
    Create,
    Rename,
    Remove,
    FolderSync,
}

/// An operation, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    pub kind: Kind,
    /// The file's name when it was opened; empty for the folder.
    pub name: Arc<str>,
    pub offset: u64,
    /// Bytes of a write, length of a [`Kind::SetLen`].
    pub bytes: u64,
}

impl Operation {
    pub fn new(kind: Kind, name: &Arc<str>) -> Self {
        Self { kind, name: name.clone(), offset: 0, bytes: 0 }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Operation { kind, name, offset, bytes } = self;
        match kind {
            Kind::Write => write!(f, "Write {name} {offset}+{bytes}"),
            Kind::SetLen => write!(f, "SetLen {name} {bytes}"),
            _ => write!(f, "{kind:?} {name}"),
        }
    }
}

/// What becomes of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Done,
    Fails(Fault),
    /// It is under way when the power goes: what it did so far may survive.
    Interrupted,
}

/// The operations so far, and what is to happen to later ones.
#[derive(Debug, Default)]
pub struct Schedule {
    pub log: Vec<Operation>,
    reads: u64,
    faults: BTreeMap<u64, Fault>,
    faults_from: Option<(u64, Fault)>,
    read_faults: BTreeMap<u64, Fault>,
    pub cut_at: Option<u64>,
}

impl Schedule {
    pub fn operations(&self) -> u64 {
        self.log.len() as u64
    }

    /// The number of the `n`-th operation from now.
    pub fn number(&self, n: u64) -> u64 {
        assert!(n > 0, "the next operation is the first");
        self.operations() + n
    }

    pub fn fail_at(&mut self, n: u64, fault: Fault) {
        self.faults.insert(self.number(n), fault);
    }

    pub fn fail_from(&mut self, n: u64, fault: Fault) {
        self.faults_from = Some((self.number(n), fault));
    }

    pub fn fail_read_at(&mut self, n: u64, fault: Fault) {
        assert!(n > 0, "the next read is the first");
        self.read_faults.insert(self.reads + n, fault);
    }

    pub fn heal(&mut self) {
        self.faults.clear();
        self.faults_from = None;
        self.read_faults.clear();
    }

    pub fn begin(&mut self, operation: Operation) -> Outcome {
        self.log.push(operation);
        let number = self.operations();
        if self.cut_at == Some(number) {
            return Outcome::Interrupted;
        }
        let lasting = self.faults_from.filter(|(from, _)| *from <= number).map(|(_, fault)| fault);
        self.faults.remove(&number).or(lasting).map_or(Outcome::Done, Outcome::Fails)
    }

    pub fn begin_read(&mut self) -> io::Result<()> {
        self.reads += 1;
        match self.read_faults.remove(&self.reads) {
            Some(fault) => Err(fault.error()),
            None => Ok(()),
        }
    }

    pub fn reads(&self) -> u64 {
        self.reads
    }
}
