//! Where a password for an upstream or a proxy comes from: read before every connect, because
//! tokens end and are replaced while the gateway runs.
//!
//! ```text
//!   PasswordReader ─ a thread that may block ─▶ PasswordSource::read ─▶ FreshPassword
//!                                                └ news: others can read the file, its token is over
//! ```
//! A password that is a token says when it ends: a JSON Web Token by its claim `exp` (RFC 7519,
//! section 4.1.4), a shared access signature of Azure by its field `se`. Its connection is renewed
//! before that. Nothing else is read from a token, and no signature is checked: that is the
//! upstream's part. A clock that is not set makes a life too long, never a refusal here.
//!
//! Limits: a file of [`PASSWORD_FILE_BYTES_MAX`], a password of [`PASSWORD_BYTES_MAX`]; one thread
//! for a reader, however long a file hangs.

use std::{
    fmt, io, mem,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::{
    clock,
    keys::{Text, Validator},
    mqtt::Password,
    pki::date,
    regular_file,
};

/// Longest password file that is read, in bytes: more than any password, so that one that is too
/// long is told by its length.
pub const PASSWORD_FILE_BYTES_MAX: u64 = 1 << 20;
/// Longest password, in bytes.
pub const PASSWORD_BYTES_MAX: usize = 16 * 1024;
/// How long a signature that is made here holds.
const SIGNATURE_LIFE: Duration = Duration::from_secs(3600);
/// A connection is renewed when this part of its password's life is over.
const RENEWED_AFTER: f64 = 0.8;
/// The shortest time between two connections for the sake of a password: less is a mistake, and
/// clouds that limit connects would refuse it.
pub const RENEW_MIN: Duration = Duration::from_secs(10);
/// What an access signature of Azure begins with.
const SIGNATURE: &str = "SharedAccessSignature ";
/// Read by the group.
const GROUP_READ: u32 = 0o040;
/// Read by others than owner and group, or written to by anybody but the owner.
const OPEN: u32 = 0o026;

/// Where a password comes from.
#[derive(Debug, Clone)]
pub enum PasswordSource {
    /// The environment: the same for as long as the process lives.
    Fixed(Password),
    /// A file.
    File(SecretFile),
    /// A signature that is made with the key in a file. (Azure IoT Hub, "Control access to IoT Hub
    /// by using shared access signatures")
    AzureKey {
        /// The file with the key, in base64.
        file: SecretFile,
        /// What the signature lets in to: `{hub}/devices/{device}`.
        resource: String,
    },
}

/// A file with a secret. Clones remember together what was told of it.
#[derive(Debug, Clone)]
pub struct SecretFile {
    path: PathBuf,
    told: Arc<Mutex<Vec<String>>>,
}

/// A password for one connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreshPassword {
    /// The password.
    pub password: Password,
    /// How long it holds from now on, if it says so.
    pub life: Option<Duration>,
    /// It is a token that is over, in words.
    pub over: Option<String>,
}

/// Reads one source again and again, for a task. A read that hangs, as on a disk that went away, is
/// waited for by the next call as well.
#[derive(Debug, Default)]
pub struct PasswordReader(Option<JoinHandle<Result<FreshPassword, PasswordError>>>);

/// There is no password to connect with. The file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The file cannot be read.
    #[error("{} cannot be read: {cause}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// It is no password for its length.
    #[error("{} holds {bytes} bytes; a password has 1 to {PASSWORD_BYTES_MAX}", file.display())]
    Length {
        /// The file.
        file: PathBuf,
        /// How long what it holds is.
        bytes: usize,
    },
    /// No field of a protocol carries it.
    #[error("the password in {} holds a NUL character: remove it", file.display())]
    Nul {
        /// The file.
        file: PathBuf,
    },
    /// It holds no key.
    #[error("{} holds no key: it has to be the primary or secondary key, in base64, as Azure shows it", file.display())]
    NoKey {
        /// The file.
        file: PathBuf,
    },
}

impl PasswordSource {
    /// Reads or makes the password. `wall_ms` is the time, in milliseconds since 1970. Blocks as
    /// long as the file does.
    ///
    /// # Errors
    /// [`PasswordError`]
    pub fn read(&self, wall_ms: u64) -> Result<FreshPassword, PasswordError> {
        let password = match self {
            Self::Fixed(password) => password.clone(),
            Self::File(file) => Password::new(text_of(&file.path)?),
            Self::AzureKey { file, resource } => {
                let no_key = || PasswordError::NoKey { file: file.path.clone() };
                let key = BASE64_STANDARD.decode(text_of(&file.path)?).map_err(|_| no_key())?;
                if key.is_empty() {
                    return Err(no_key());
                }
                Password::new(signature(&key, resource, wall_ms / 1000 + SIGNATURE_LIFE.as_secs()))
            }
        };
        let end_s = str::from_utf8(password.expose()).ok().and_then(ends_at_s);
        let life = end_s.map(|end| Duration::from_millis(end.saturating_mul(1000).saturating_sub(wall_ms)));
        let is_over = |end: &u64| end.saturating_mul(1000) <= wall_ms;
        // The same words for the same token, whenever they are said.
        let over = end_s.filter(is_over).map(|end| {
            let end = date(end);
            format!("{self} is a token that ended on {end}: replace it, or set this machine's clock if that is wrong")
        });
        Ok(FreshPassword { password, life, over })
    }

    /// The same source, read once for whoever checks the keys: why it gives no password yet is
    /// noted at the key that names its file.
    pub(in crate::uplink) fn checked(self, validator: &mut Validator<'_>, key: &Text) -> Self {
        if let Err(error) = self.read(clock::wall_ms()) {
            validator.not_yet(&key.span(), error.to_string());
        }
        self
    }

    /// What is to be told of its file and was not: that others can read it, and that the token that
    /// was read is over. May block.
    pub fn news(&self, fresh: Option<&FreshPassword>) -> Vec<String> {
        let (Self::File(file) | Self::AzureKey { file, .. }) = self else { return Vec::new() };
        let now: Vec<_> =
            exposure(&file.path).into_iter().chain(fresh.and_then(|fresh| fresh.over.clone())).collect();
        let before = mem::replace(&mut *file.told.lock(), now.clone());
        now.into_iter().filter(|words| !before.contains(words)).collect()
    }
}

impl PasswordReader {
    /// The password, read anew. Cancel-safe.
    ///
    /// # Errors
    /// [`io::Error`], with a [`PasswordError`] in it.
    pub async fn read(&mut self, source: &PasswordSource) -> io::Result<FreshPassword> {
        // What came when nobody waited any more is old.
        self.0.take_if(|reading| reading.is_finished());
        let reading = self.0.get_or_insert_with(|| {
            let source = source.clone();
            spawn_blocking(move || {
                let fresh = source.read(clock::wall_ms())?;
                source.news(Some(&fresh)).iter().for_each(|words| tracing::warn!("{words}"));
                Ok(fresh)
            })
        });
        let read = reading.await;
        self.0 = None;
        read.map_err(io::Error::other)?.map_err(io::Error::other)
    }
}

impl SecretFile {
    /// The file at this path.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path, told: Arc::default() }
    }
}

impl fmt::Display for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(f)
    }
}

impl fmt::Display for PasswordSource {
    /// Where it comes from; never what it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(_) => f.write_str("a password of the environment"),
            Self::File(file) => write!(f, "the password in {file}"),
            Self::AzureKey { file, resource } => {
                write!(f, "signatures for {resource} by the key in {file}")
            }
        }
    }
}

impl FreshPassword {
    /// When to renew the connection that is made with it: after `renew`, if that was set, and
    /// before its life is over in any case.
    #[must_use]
    pub fn renew_after(&self, renew: Option<Duration>) -> Option<Duration> {
        // One that is over, or soon is, and that nobody has replaced: connecting anew brings no
        // other, and whether it still lets in is the upstream's to judge.
        let life = self.life.map(|life| life.mul_f64(RENEWED_AFTER)).filter(|after| *after >= RENEW_MIN);
        renew.into_iter().chain(life).min()
    }
}

/// What others may do with this file, in words. Of one that cannot be looked at, reading says why.
fn exposure(file: &Path) -> Option<String> {
    let found = std::fs::metadata(file).ok()?;
    is_exposed(found.mode(), found.uid()).then(|| {
        format!(
            "others can read or change the password in {}, whose mode is {:04o}: chmod 600 {0}",
            file.display(),
            found.mode() & 0o7777
        )
    })
}

/// Root gives a service its secrets by a group, and so does systemd; of a file of the service's own
/// the group is no part.
fn is_exposed(mode: u32, owner: u32) -> bool {
    mode & OPEN != 0 || (mode & GROUP_READ != 0 && owner != 0)
}

fn text_of(file: &Path) -> Result<String, PasswordError> {
    let text = regular_file::read_text(file, PASSWORD_FILE_BYTES_MAX)
        .map_err(|cause| PasswordError::Unreadable { file: file.to_owned(), cause })?;
    let text = text.trim_end_matches(['\r', '\n']).to_owned();
    if !(1..=PASSWORD_BYTES_MAX).contains(&text.len()) {
        return Err(PasswordError::Length { file: file.to_owned(), bytes: text.len() });
    }
    if text.contains('\0') {
        return Err(PasswordError::Nul { file: file.to_owned() });
    }
    Ok(text)
}

/// When a token ends, in seconds since 1970, if it is one that says so.
fn ends_at_s(password: &str) -> Option<u64> {
    if let Some(fields) = password.strip_prefix(SIGNATURE) {
        return form_urlencoded::parse(fields.as_bytes())
            .find(|(name, _)| name == "se")
            .and_then(|(_, end)| end.parse().ok());
    }
    /// The claims of a JSON Web Token that are looked at.
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }
    let mut parts = password.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let claims: Claims = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    (claims.exp > 0.0).then_some(claims.exp as u64)
}

/// An access signature for `resource` that holds until `end_s`.
fn signature(key: &[u8], resource: &str, end_s: u64) -> String {
    let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let resource = encoded(resource);
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
    let signed = ring::hmac::sign(&key, format!("{resource}\n{end_s}").as_bytes());
    format!("{SIGNATURE}sr={resource}&sig={}&se={end_s}", encoded(&BASE64_STANDARD.encode(signed)))
}

#[cfg(test)]
impl PasswordReader {
    /// One whose read under way gives this password when it is released.
    pub fn that_hangs(password: &str) -> (Self, std::sync::mpsc::Sender<()>) {
        let (release, released) = std::sync::mpsc::channel();
        let password = Password::new(password);
        let reading = spawn_blocking(move || {
            let _ = released.recv();
            Ok(FreshPassword { password, life: None, over: None })
        });
        (Self(Some(reading)), release)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_700_000_000_000;

    fn jwt(claims: &str) -> String {
        format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims))
    }

    fn fixed(password: &str) -> FreshPassword {
        PasswordSource::Fixed(Password::new(password)).read(NOW_MS).unwrap()
    }

    #[test]
    fn a_token_says_when_it_ends_and_what_is_no_token_does_not() {
        let in_100_s = Some(Duration::from_secs(100));
        for (password, life) in [
            (jwt(r#"{"sub":"gate","exp":1700000100}"#), in_100_s),
            (jwt(r#"{"exp":1.7000001e9}"#), in_100_s),
            (jwt(r#"{"exp":1600000000}"#), Some(Duration::ZERO)),
            (jwt(r#"{"exp":"soon"}"#), None),
            (jwt(r#"{"exp":-5}"#), None),
            (jwt("{}"), None),
            ("SharedAccessSignature sr=hub&sig=x%3D&se=1700000100".to_owned(), in_100_s),
            ("SharedAccessSignature sr=hub&sig=x%3D".to_owned(), None),
            ("a.b.c".to_owned(), None),
            ("correct.horse".to_owned(), None),
            ("hunter2".to_owned(), None),
        ] {
            assert_eq!(fixed(&password).life, life, "{password}");
        }
    }

    #[test]
    fn a_connection_is_renewed_at_four_fifths_of_a_life_or_when_it_was_said() {
        let minutes = |minutes: u64| Some(Duration::from_secs(60 * minutes));
        let fresh = |life| FreshPassword { password: Password::new("p"), life, over: None };
        for (life, renew, after) in [
            (minutes(100), None, minutes(80)),
            (minutes(100), minutes(50), minutes(50)),
            (minutes(100), minutes(90), minutes(80)),
            (None, minutes(50), minutes(50)),
            (None, None, None),
            (minutes(0), None, None),
            (Some(Duration::from_secs(20)), None, Some(Duration::from_secs(16))),
            // Nobody has replaced it.
            (Some(Duration::from_secs(4)), None, None),
        ] {
            assert_eq!(fresh(life).renew_after(renew), after, "{life:?} {renew:?}");
        }
    }

    #[test]
    fn a_signature_is_what_azure_computes() {
        // `echo -ne 'hub.example%2Fdevices%2Fgate\n1700003600' | openssl dgst -sha256 -hmac key -binary | base64`
        let made = signature(b"key", "hub.example/devices/gate", 1_700_003_600);
        assert_eq!(
            made,
            "SharedAccessSignature sr=hub.example%2Fdevices%2Fgate&sig=Z80TltGf0X2EgxGRwQ%2FByPnBJNj1aHCKBOh%2Fk8Ao9b0%3D&se=1700003600"
        );
    }

    #[test]
    fn a_password_is_read_each_time_and_what_is_none_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let source = PasswordSource::File(SecretFile::new(file.clone()));
        let read = || source.read(NOW_MS).map(|fresh| fresh.password).map_err(|error| error.to_string());
        assert!(read().unwrap_err().contains("token cannot be read"));
        std::fs::write(&file, "one\r\n").unwrap();
        assert_eq!(read(), Ok(Password::new("one")));
        std::fs::write(&file, "two").unwrap();
        assert_eq!(read(), Ok(Password::new("two")));
        for (content, why) in [
            (String::new(), "holds 0 bytes"),
            ("\n".to_owned(), "holds 0 bytes"),
            ("x".repeat(PASSWORD_BYTES_MAX + 1), "holds 16385 bytes"),
            ("a\0b".to_owned(), "NUL"),
        ] {
            std::fs::write(&file, content).unwrap();
            assert!(read().unwrap_err().contains(why), "{why}");
        }
        let (secret, resource) = (SecretFile::new(file.clone()), "hub/devices/d".to_owned());
        let key = PasswordSource::AzureKey { file: secret, resource };
        std::fs::write(&file, "not base64!").unwrap();
        assert!(key.read(NOW_MS).unwrap_err().to_string().contains("holds no key"));
        std::fs::write(&file, "a2V5\n").unwrap();
        assert_eq!(key.read(NOW_MS).unwrap().life, Some(SIGNATURE_LIFE));
    }

    #[test]
    fn a_password_is_exposed_to_all_but_its_owner_and_a_group_that_root_chose() {
        for (mode, owner, wanted) in [
            (0o600, 1000, false),
            (0o400, 0, false),
            (0o640, 0, false),
            (0o440, 0, false),
            (0o640, 1000, true),
            (0o660, 0, true),
            (0o604, 0, true),
            (0o602, 1000, true),
            (0o644, 1000, true),
        ] {
            assert_eq!(is_exposed(mode, owner), wanted, "{mode:o} of {owner}");
        }
    }

    #[test]
    fn a_file_that_others_can_read_and_a_token_that_is_over_are_told_once_each() {
        use std::{fs, os::unix::fs::PermissionsExt as _};
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let source = PasswordSource::File(SecretFile::new(file.clone()));
        let other = source.clone();
        let news = |source: &PasswordSource, now_ms| source.news(Some(&source.read(now_ms).unwrap()));
        let write = |end_s: u64, mode: u32| {
            fs::write(&file, jwt(&format!("{{\"exp\":{end_s}}}"))).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        };
        for (end_s, mode, words) in [
            (1_700_000_100, 0o600, &[][..]),
            (1_700_000_100, 0o644, &["whose mode is 0644: chmod 600 "]),
            (1_700_000_000, 0o644, &["is a token that ended on 2023-11-14T22:13:20Z: replace it"]),
            (1_699_999_999, 0o644, &["is a token that ended on 2023-11-14T22:13:19Z"]),
            (1_700_000_100, 0o600, &[]),
            (1_600_000_000, 0o604, &["chmod 600 ", "replace it"]),
        ] {
            write(end_s, mode);
            let said = news(&source, NOW_MS);
            assert_eq!(said.len(), words.len(), "{said:?}");
            assert!(said.iter().zip(words).all(|(said, words)| said.contains(words)), "{said:?}");
            let later = NOW_MS + 5000;
            assert_eq!(
                (news(&source, later), news(&other, later)),
                (vec![], vec![]),
                "whichever client reads it"
            );
        }
        let fixed = PasswordSource::Fixed(Password::new(jwt(r#"{"exp":1}"#)));
        assert_eq!(news(&fixed, NOW_MS), [""; 0]);
    }

    #[tokio::test]
    async fn a_read_that_hangs_holds_one_thread_and_what_it_gives_too_late_is_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "new").unwrap();
        let source = PasswordSource::File(SecretFile::new(file));
        let (mut reader, release) = PasswordReader::that_hangs("old");
        for _ in 0..3 {
            let waited = tokio::time::timeout(Duration::from_millis(10), reader.read(&source)).await;
            assert!(waited.is_err() && reader.0.is_some(), "another read was begun");
        }
        release.send(()).unwrap();
        while !reader.0.as_ref().unwrap().is_finished() {
            tokio::task::yield_now().await;
        }
        assert_eq!(reader.read(&source).await.unwrap().password, Password::new("new"));
    }
}
