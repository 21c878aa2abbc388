//! All commands, in memory, and what becomes of them. Pure: no clock, no file, no lock.
//!
//! ```text
//!  number ─▶ command        oldest first: what one device gets is in this order
//!  device ─▶ id ─▶ number   and the numbers of those that wait for it
//!  expiry                   those that wait, the first to expire first
//!  ended                    those that wait no more, the longest ended first: they go first
//! ```
//! Every change goes through `Book::set`, which keeps all of it in step and notes what was touched:
//! that is what a transaction has to write.
//!
//! Limits: [`PENDING_MAX`] that wait, [`DEVICE_PENDING_MAX`] of them for one device, `max_bytes` of
//! all. What has ended stays for [`ENDED_KEPT_MS`], the [`ENDED_MAX`] newest of them, and goes
//! earlier where the bytes are wanted. So long an id is known.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use super::{
    age::{Due, Present, due},
    command::{
        Change, Command, CommandState, Full, ID_BYTES_MAX, NewCommand, NewId, Put, PutError, REPLY_BYTES_MAX,
        Reply,
    },
};

/// Commands that wait for one device, at most.
pub const DEVICE_PENDING_MAX: usize = 100;
/// Commands that wait, at most.
pub const PENDING_MAX: usize = 10_000;
/// Commands that wait no more and are kept to be looked at, at most.
pub const ENDED_MAX: usize = 1_000;
/// How long they are kept, in milliseconds.
pub const ENDED_KEPT_MS: u64 = 24 * 3600 * 1000;
/// A message that is sent again was among the newest of its origin: no more than so many are ever
/// unacknowledged.
pub const RESENT_AMONG_MAX: usize = 32;

/// All commands.
#[derive(Debug, Clone)]
pub struct Book {
    commands: BTreeMap<u64, Arc<Command>>,
    devices: BTreeMap<String, Device>,
    expiry: BTreeSet<(Due, u64)>,
    ended: BTreeSet<(u64, u64)>,
    pending_bytes: u64,
    bytes: u64,
    max_bytes: u64,
    next_number: u64,
    touched: BTreeSet<u64>,
}

#[derive(Debug, Clone, Default)]
struct Device {
    by_id: BTreeMap<String, u64>,
    pending: BTreeSet<u64>,
}

impl Book {
    /// Without any command.
    pub fn new(max_bytes: u64) -> Self {
        Self {
            commands: BTreeMap::new(),
            devices: BTreeMap::new(),
            expiry: BTreeSet::new(),
            ended: BTreeSet::new(),
            pending_bytes: 0,
            bytes: 0,
            max_bytes,
            next_number: 1,
            touched: BTreeSet::new(),
        }
    }

    /// Puts what a file held back into its place.
    pub fn restore(&mut self, number: u64, command: Command) {
        self.set(number, Some(Arc::new(command)));
        self.touched.clear();
    }

    /// Takes a command over as another book has it.
    pub fn copy(&mut self, number: u64, from: &Self) {
        self.set(number, from.commands.get(&number).cloned());
        self.next_number = self.next_number.max(from.next_number);
        self.touched.clear();
    }

    /// The numbers of what was changed since this was asked last.
    pub fn take_touched(&mut self) -> BTreeSet<u64> {
        std::mem::take(&mut self.touched)
    }

    /// The command of this number.
    pub fn numbered(&self, number: u64) -> Option<&Arc<Command>> {
        self.commands.get(&number)
    }

    /// Bytes of all commands.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The number that the next command gets.
    pub fn next_number(&self) -> u64 {
        self.next_number
    }

    /// No number below this is given again.
    pub fn skip_to(&mut self, number: u64) {
        self.next_number = self.next_number.max(number);
    }

    /// How many wait.
    pub fn pending_count(&self) -> usize {
        self.expiry.len()
    }

    /// The command of a device.
    pub fn get(&self, device: &str, id: &str) -> Option<&Arc<Command>> {
        self.commands.get(self.devices.get(device)?.by_id.get(id)?)
    }

    /// What waits for a device, oldest first.
    pub fn pending(&self, device: &str) -> impl Iterator<Item = &Arc<Command>> {
        let numbers = self.devices.get(device).into_iter().flat_map(|device| &device.pending);
        numbers.filter_map(|number| self.commands.get(number))
    }

    /// The devices for which something waits.
    pub fn waiting_devices(&self) -> impl Iterator<Item = &str> {
        self.devices.iter().filter(|(_, of)| !of.pending.is_empty()).map(|(name, _)| name.as_str())
    }

    /// All commands, newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Arc<Command>> {
        self.commands.values().rev()
    }

    /// Takes a command in, or finds that it was.
    ///
    /// # Errors
    /// [`PutError`]: it is not taken in.
    pub fn put(&mut self, new: &NewCommand<'_>, now: &Present) -> Result<Put, PutError> {
        let now_ms = now.wall_ms;
        let expires_ms = new.check(now_ms)?;
        self.tidy(now);
        if let Some(known) = self.known(new)? {
            return Ok(Put::Known(known));
        }
        let number = self.next_number;
        let command = Command {
            device: new.device.to_owned(),
            id: self.id_for(new, number, now_ms),
            payload: new.payload.to_owned(),
            content_type: new.content_type.map(str::to_owned),
            created_ms: now_ms,
            expires_ms,
            origin: new.origin.to_owned(),
            state: CommandState::Pending,
            changed_ms: now_ms,
            reason: None,
            reply: None,
            taken_in: now.moment(),
        };
        self.make_room(&command)?;
        self.next_number += 1;
        let command = Arc::new(command);
        self.set(number, Some(command.clone()));
        Ok(Put::Taken(command))
    }

    /// Notes what happened, and gives the command to which it did; `None` where there is none that
    /// it could have.
    pub fn apply(&mut self, change: &Change<'_>, now_ms: u64) -> Option<Arc<Command>> {
        use CommandState::{Cancelled, Delivered, Expired, Failed, Pending, Replied};
        let number = self.meant(change)?;
        let mut command = Command::clone(self.commands.get(&number)?);
        match (change, command.state) {
            (Change::Delivered { .. }, Pending | Expired | Cancelled) => command.state = Delivered,
            (Change::Refused { reason, .. }, Pending | Expired | Cancelled) => {
                (command.state, command.reason) = (Failed, Some(*reason));
            }
            (Change::Cancelled { .. }, Pending) => command.state = Cancelled,
            // A second answer, such as to a copy, leaves the first one.
            (Change::Replied { payload, .. }, state) if state != Replied => {
                let own = if state == Pending { command.size() } else { 0 };
                let room = (self.max_bytes + own).saturating_sub(self.pending_bytes + command.size());
                let kept =
                    payload.len().min(REPLY_BYTES_MAX).min(usize::try_from(room).unwrap_or(usize::MAX));
                let reply =
                    Reply { payload: payload[..kept].to_owned(), bytes: payload.len() as u64, at_ms: now_ms };
                (command.state, command.reply) = (Replied, Some(reply));
            }
            // It was said before, or came too late to change anything.
            _ => return Some(Arc::new(command)),
        }
        command.changed_ms = now_ms;
        let command = Arc::new(command);
        self.set(number, Some(command.clone()));
        self.drop_ended(self.max_bytes, Some(number));
        Some(command)
    }

    /// Ends what has expired, and drops what ended long ago or is too much. Says whether there was
    /// any.
    pub fn tidy(&mut self, now: &Present) -> bool {
        let (now_ms, over) = (now.wall_ms, self.over(now));
        for number in &over {
            if let Some(command) = self.commands.get(number) {
                let state = CommandState::Expired;
                let ended = Command { state, changed_ms: now_ms, ..Command::clone(command) };
                self.set(*number, Some(Arc::new(ended)));
            }
        }
        let too_many = self.ended.len().saturating_sub(ENDED_MAX);
        let is_done = |(at, (ended_ms, _)): &(usize, &(u64, u64))| {
            *at < too_many || now_ms.saturating_sub(*ended_ms) > ENDED_KEPT_MS
        };
        let gone: Vec<u64> =
            self.ended.iter().enumerate().take_while(is_done).map(|(_, (_, number))| *number).collect();
        gone.iter().for_each(|number| self.set(*number, None));
        !over.is_empty() || !gone.is_empty()
    }

    /// Whether [`Book::tidy`] has something to do.
    pub fn is_untidy(&self, now: &Present) -> bool {
        let now_ms = now.wall_ms;
        self.ended.len() > ENDED_MAX
            || self.ended.first().is_some_and(|(ms, _)| now_ms.saturating_sub(*ms) > ENDED_KEPT_MS)
            || !self.over(now).is_empty()
    }

    /// What has expired: of each machine boot the first to do so.
    fn over(&self, now: &Present) -> Vec<u64> {
        let is_over =
            |number: &u64| self.commands.get(number).is_none_or(|command| now.left_ms(command) == 0);
        let mut over = Vec::new();
        let mut next = self.expiry.first();
        while let Some(((axis, _), _)) = next {
            let of_boot = self.expiry.range(((*axis, i64::MIN), 0)..=((*axis, i64::MAX), u64::MAX));
            over.extend(of_boot.map(|(_, number)| *number).take_while(is_over));
            let behind = (Bound::Excluded(((*axis, i64::MAX), u64::MAX)), Bound::Unbounded);
            next = self.expiry.range(behind).next();
        }
        over
    }

    /// The command that this one is, if it was taken in before.
    fn known(&self, new: &NewCommand<'_>) -> Result<Option<Arc<Command>>, PutError> {
        match new.id {
            NewId::Made | NewId::Derived { is_resent: false, .. } => Ok(None),
            NewId::Given(id) => match self.get(new.device, id) {
                Some(known)
                    if known.payload == new.payload && known.content_type.as_deref() == new.content_type =>
                {
                    Ok(Some(known.clone()))
                }
                Some(_) => Err(PutError::Conflict { device: new.device.to_owned(), id: id.to_owned() }),
                None => Ok(None),
            },
            NewId::Derived { looks, is_resent: true } => {
                let of_origin = self.newest_first().filter(|command| command.origin == new.origin);
                let same = |command: &&Arc<Command>| {
                    command.device == new.device
                        && command.payload == new.payload
                        && looks_of(&command.id) == looks
                };
                Ok(of_origin.take(RESENT_AMONG_MAX).find(same).cloned())
            }
        }
    }

    /// An id that no other command of the device has.
    fn id_for(&self, new: &NewCommand<'_>, number: u64, now_ms: u64) -> String {
        let looks = match new.id {
            NewId::Given(id) => return id.to_owned(),
            // The time as well, should the file be lost one day and the numbers begin anew.
            NewId::Made => format!("{now_ms:x}-{number:x}"),
            NewId::Derived { looks, .. } => looks.to_owned(),
        };
        let is_free = |id: &String| self.get(new.device, id).is_none();
        if is_free(&looks) {
            return looks;
        }
        // No device has more commands than there are numbers, so one of these is free.
        let longest = ID_BYTES_MAX - 1 - u64::MAX.ilog10() as usize - 1;
        let looks = &looks[..looks.len().min(longest)];
        (2..u64::MAX).map(|copy| format!("{looks}{COPY}{copy}")).find(is_free).unwrap_or_default()
    }

    /// Makes room for a command that is to wait.
    fn make_room(&mut self, command: &Command) -> Result<(), Full> {
        if self.devices.get(&command.device).is_some_and(|device| device.pending.len() >= DEVICE_PENDING_MAX)
        {
            return Err(Full::Device { max: DEVICE_PENDING_MAX });
        }
        if self.expiry.len() >= PENDING_MAX {
            return Err(Full::Commands { max: PENDING_MAX });
        }
        let left = self.max_bytes.checked_sub(command.size()).filter(|left| self.pending_bytes <= *left);
        let left = left.ok_or(Full::Bytes { max_bytes: self.max_bytes })?;
        self.drop_ended(left, None);
        Ok(())
    }

    /// Drops what ended longest ago, but for `kept`, until there are at most `max_bytes`.
    fn drop_ended(&mut self, max_bytes: u64, kept: Option<u64>) {
        while self.bytes > max_bytes
            && let Some((_, number)) = self.ended.iter().find(|(_, number)| Some(*number) != kept).copied()
        {
            self.set(number, None);
        }
    }

    /// The number of the command that a change is about.
    fn meant(&self, change: &Change<'_>) -> Option<u64> {
        let number = |device: &str, id: &str| self.devices.get(device)?.by_id.get(id).copied();
        match *change {
            Change::Delivered { device, id }
            | Change::Refused { device, id, .. }
            | Change::Cancelled { device, id } => number(device, id),
            Change::Replied { device, correlation: Some(id), .. } => {
                number(device, std::str::from_utf8(id).ok()?)
            }
            Change::Replied { device, correlation: None, .. } => {
                let of = self.devices.get(device)?;
                let is_unanswered = |number: &u64| {
                    self.commands.get(number).is_some_and(|command| command.state == CommandState::Delivered)
                };
                let delivered = of.by_id.values().copied().filter(is_unanswered).min();
                delivered.or_else(|| of.pending.first().copied())
            }
        }
    }

    /// Puts a command into its place, or takes it away.
    fn set(&mut self, number: u64, command: Option<Arc<Command>>) {
        self.touched.insert(number);
        self.next_number = self.next_number.max(number + 1);
        if let Some(before) = self.commands.remove(&number) {
            self.bytes -= before.size();
            if before.state == CommandState::Pending {
                self.expiry.remove(&(due(&before), number));
                self.pending_bytes -= before.size();
            }
            self.ended.remove(&(before.changed_ms, number));
            if let Some(device) = self.devices.get_mut(&before.device) {
                device.by_id.remove(&before.id);
                device.pending.remove(&number);
                if device.by_id.is_empty() {
                    self.devices.remove(&before.device);
                }
            }
        }
        let Some(command) = command else { return };
        let device = self.devices.entry(command.device.clone()).or_default();
        device.by_id.insert(command.id.clone(), number);
        self.bytes += command.size();
        if command.state == CommandState::Pending {
            device.pending.insert(number);
            self.expiry.insert((due(&command), number));
            self.pending_bytes += command.size();
        } else {
            self.ended.insert((command.changed_ms, number));
        }
        self.commands.insert(number, command);
    }
}

/// Stands between what a message looks like and the number of its copy.
const COPY: char = '.';

/// What the message of a derived id looked like.
fn looks_of(id: &str) -> &str {
    id.split_once(COPY).map_or(id, |(looks, _)| looks)
}
