//! `tidegate commands`: commands to devices, sent and looked at through a running gateway over
//! HTTP.
//!
//! A command that was sent waits in the gateway: this process may end. With `--wait` it stays for
//! the device's reply.

use std::{
    io::Read as _,
    path::PathBuf,
    time::{Duration, Instant},
};

use super::{
    Failure,
    ask::{ANSWER_MAX, Gateway, HTTP_DEFAULT},
    people, when,
};
use crate::{
    clock,
    http::{CommandItem, CommandList, CommandRequest},
    printable,
    store::{COMMAND_BYTES_MAX, CommandState},
};

/// How often a reply is asked for.
const ASK_EVERY: Duration = Duration::from_millis(200);
const HEADING: &str =
    "id                                device            state      since                      bytes  origin";

/// Send commands to devices, and see what became of them
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  tidegate commands send stall-3 \"fan on\"
  tidegate commands send stall-3 --json '{\"fan\":true}' --id fan-17 --expires-in 2h --wait 30s
  tidegate commands list --device stall-3 --state pending
  tidegate commands show stall-3 fan-17
  tidegate commands cancel stall-3 fan-17

A command waits for a device that sleeps. The same --id again is the same command, and is not sent twice.")]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Send one: it is on the gateway's disk when this ends well
    Send(SendArguments),
    /// List them, newest first
    List(ListArguments),
    /// Show one, with the device's reply
    Show(OneArguments),
    /// Take one back that waits still
    Cancel(OneArguments),
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
struct SendArguments {
    /// The device's name
    device: String,
    /// The payload, as text
    #[arg(group = "what")]
    text: Option<String>,
    /// The payload, as JSON
    #[arg(long, value_name = "TEXT", group = "what")]
    json: Option<String>,
    /// The payload, from a file; - is standard input
    #[arg(long, value_name = "FILE", group = "what")]
    file: Option<PathBuf>,
    /// Its id, 1 to 64 of A-Z a-z 0-9 . _ : -; without it the gateway makes one
    #[arg(long)]
    id: Option<String>,
    /// How long it waits for the device, like 2h; a day without it
    #[arg(long, value_name = "TIME")]
    expires_in: Option<String>,
    /// Stay so long for the device's reply
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    wait: Option<Duration>,
    #[command(flatten)]
    at: At,
    /// For scripts: JSON as /api/commands/ID gives it
    #[arg(long)]
    json_output: bool,
}

#[derive(Debug, clap::Args)]
struct ListArguments {
    /// Those of one device
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// pending, delivered, replied, expired, cancelled or failed
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// At most so many
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    #[command(flatten)]
    at: At,
    /// For scripts: JSON, one a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct OneArguments {
    /// The device's name
    device: String,
    /// The command's id
    id: String,
    #[command(flatten)]
    at: At,
    /// For scripts: JSON as /api/commands/ID gives it
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct At {
    /// The gateway's [http] address
    #[arg(long, value_name = "ADDRESS", default_value = HTTP_DEFAULT)]
    http: String,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.action {
        Action::Send(send) => send_one(send),
        Action::List(list) => list_all(list),
        Action::Show(one) => {
            let gateway = one.at.gateway();
            print_answer(&gateway, &gateway.get(&path(&one.device, &one.id))?, one.json)
        }
        Action::Cancel(one) => {
            let gateway = one.at.gateway();
            print_answer(&gateway, &gateway.delete(&path(&one.device, &one.id))?, one.json)
        }
    }
}

impl At {
    fn gateway(&self) -> Gateway {
        Gateway::at(&self.http, ANSWER_MAX)
    }
}

fn send_one(arguments: &SendArguments) -> Result<(), Failure> {
    let gateway = arguments.at.gateway();
    let body = serde_json::to_string(&request(arguments)?)
        .map_err(|cause| Failure::Usage(format!("the command cannot be written as JSON: {cause}")))?;
    let mut answer = gateway.post("/api/commands", &body)?;
    if let Some(wait) = arguments.wait {
        let until = clock::monotonic() + wait;
        answer = wait_for_end(&gateway, answer, until, wait)?;
    }
    print_answer(&gateway, &answer, arguments.json_output)
}

/// Asks until the device has answered, or never will.
fn wait_for_end(
    gateway: &Gateway,
    mut answer: String,
    until: Instant,
    wait: Duration,
) -> Result<String, Failure> {
    loop {
        let item: CommandItem = gateway.parse(&answer)?;
        match item.state {
            CommandState::Replied => return Ok(answer),
            CommandState::Pending | CommandState::Delivered if clock::monotonic() < until => {
                std::thread::sleep(ASK_EVERY);
                answer = gateway.get(&path(&item.device, &item.id))?;
            }
            CommandState::Pending | CommandState::Delivered => {
                return Err(Failure::Lost(format!(
                    "no reply within {wait:?}: the command {} is {}; see \"tidegate commands show {} {}\"",
                    item.id,
                    item.state.name(),
                    item.device,
                    item.id
                )));
            }
            state => return Err(Failure::Lost(format!("the command {} is {}", item.id, state.name()))),
        }
    }
}

fn request(arguments: &SendArguments) -> Result<CommandRequest, Failure> {
    let json = arguments.json.as_deref().map(serde_json::from_str).transpose();
    let json = json.map_err(|cause| Failure::Usage(format!("--json: {cause}")))?;
    let mut request = CommandRequest {
        device: arguments.device.clone(),
        payload: arguments.text.clone(),
        json,
        id: arguments.id.clone(),
        expires_in: arguments.expires_in.clone(),
        ..CommandRequest::default()
    };
    if let Some(file) = &arguments.file {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        request.payload_base64 = Some(STANDARD.encode(read(file)?));
    }
    Ok(request)
}

/// Reads a payload, and one byte more than it may have.
fn read(file: &PathBuf) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let most = COMMAND_BYTES_MAX as u64 + 1;
    let read = match file.as_os_str() == "-" {
        true => std::io::stdin().take(most).read_to_end(&mut bytes),
        false => std::fs::File::open(file).and_then(|opened| opened.take(most).read_to_end(&mut bytes)),
    };
    read.map_err(|cause| Failure::NoInput(format!("{}: {cause}", file.display())))?;
    Ok(bytes)
}

fn list_all(arguments: &ListArguments) -> Result<(), Failure> {
    let mut query = form_urlencoded::Serializer::new(String::new());
    let limit = arguments.limit.map(|limit| limit.to_string());
    for (name, value) in [("device", &arguments.device), ("state", &arguments.state), ("limit", &limit)] {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let gateway = arguments.at.gateway();
    let list: CommandList = gateway.parse(&gateway.get(&format!("/api/commands?{}", query.finish()))?)?;
    if arguments.json {
        for item in &list.items {
            let line = serde_json::to_string(item);
            say!(
                "{}",
                line.map_err(|cause| Failure::Io(format!("a command cannot be written as JSON: {cause}")))?
            );
        }
    } else if list.items.is_empty() {
        say!("no commands");
    } else {
        say!("{HEADING}");
        list.items.iter().for_each(|item| say!("{}", row(item)));
    }
    Ok(())
}

fn print_answer(gateway: &Gateway, json: &str, as_json: bool) -> Result<(), Failure> {
    if as_json {
        say!("{json}");
    } else {
        say!("{}", sheet(&gateway.parse(json)?).trim_end());
    }
    Ok(())
}

fn path(device: &str, id: &str) -> String {
    let quoted = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    format!("/api/commands/{}?device={}", quoted(id), quoted(device))
}

fn row(item: &CommandItem) -> String {
    format!(
        "{:<32}  {:<16}  {:<9}  {:<20}  {:>10}  {}",
        printable::line(&item.id),
        printable::line(&item.device),
        item.state.name(),
        when::show(item.changed_ms),
        people::bytes(item.payload_bytes),
        printable::line(&item.origin)
    )
}

fn sheet(item: &CommandItem) -> String {
    let reason = item.reason.map(|reason| format!(", reason {reason:#04x}")).unwrap_or_default();
    let mut text = format!(
        "id         {}\ndevice     {}\nstate      {}{reason}, since {}\ntaken in   {}, from {}\nexpires    {}\npayload    {}\n",
        printable::line(&item.id),
        printable::line(&item.device),
        item.state.name(),
        when::show(item.changed_ms),
        when::show(item.created_ms),
        printable::line(&item.origin),
        when::show(item.expires_ms),
        shown(item.payload.as_deref(), item.payload_base64.as_deref()),
    );
    if let Some(at_ms) = item.replied_ms {
        let reply = shown(item.reply.as_deref(), item.reply_base64.as_deref());
        text += &format!("reply      {reply}\nreplied    {}\n", when::show(at_ms));
    }
    text
}

fn shown(text: Option<&str>, base64: Option<&str>) -> String {
    match (text, base64) {
        (Some(text), _) => printable::line(text).into_owned(),
        (None, Some(base64)) => format!("base64 {base64}"),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item() -> CommandItem {
        serde_json::from_str(
            r#"{"id":"f:1","device":"stall-3","state":"replied","changed_ms":1000,"created_ms":0,"expires_ms":9000,
                "origin":"http","payload_bytes":2,"payload":"on","replied_ms":1000,"reply":"ok\u001b"}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_command_is_shown_with_its_reply_and_nothing_that_a_terminal_obeys() {
        let sheet = sheet(&item());
        assert!(sheet.contains("state      replied, since 1970-01-01T00:00:01Z\n"), "{sheet}");
        assert!(sheet.contains("payload    on\nreply      ok\\u001b\n"), "{sheet}");
        assert!(row(&item()).starts_with("f:1  ") && row(&item()).contains("stall-3"), "{}", row(&item()));
        assert_eq!(path("a b", "f:1/x"), "/api/commands/f%3A1%2Fx?device=a+b");
    }

    proptest::proptest! {
        #![proptest_config(crate::printable::hostile::cases())]

        #[test]
        fn no_text_of_a_command_or_its_reply_adds_a_line(text in printable::hostile::text()) {
            let item = CommandItem {
                id: text.clone(),
                device: text.clone(),
                origin: text.clone(),
                payload: Some(text.clone()),
                reply: Some(text),
                ..item()
            };
            printable::hostile::assert_lines(&row(&item), 1);
            printable::hostile::assert_lines(sheet(&item).trim_end(), 8);
        }
    }

    #[test]
    fn the_commands_work_on_the_pages_of_a_gateway() {
        use std::sync::Arc;

        use tokio_util::sync::CancellationToken;

        use crate::{
            http,
            store::{Change, Settings, Store},
            uplink,
        };

        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            segment_bytes: 1 << 20,
            dead_letters_max_bytes: 1 << 20,
            ..Settings::new(folder.path().join("data"))
        };
        let store = Store::open(settings, &[]).unwrap();
        let outbox = store.outbox();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let bound = runtime.block_on(http::bind(&http::Settings::new("127.0.0.1:0".parse().unwrap())));
        let bound = bound.unwrap();
        let address = bound.address().to_string();
        let rooms = http::Rooms {
            snapshot: Arc::new(http::Snapshot::default),
            store: store.view(),
            replays: uplink::Replays::new(store.view(), vec![], uplink::EventContext::default()),
            outbox: outbox.clone(),
            catalog: Default::default(),
            fleet: Default::default(),
        };
        runtime.spawn(http::run(bound, rooms, CancellationToken::new()));
        let command = |words: &[&str]| {
            let all = ["tidegate", "commands"].iter().chain(words).copied().chain(["--http", &address]);
            super::super::main(all.map(Into::into))
        };
        assert_eq!(command(&["send", "stall-3", "on", "--id", "x", "--expires-in", "2h"]), 0);
        assert_eq!(command(&["send", "stall-3", "on", "--id", "x"]), 0, "known");
        assert_eq!(command(&["send", "stall-3", "off", "--id", "x"]), 64, "another");
        assert_eq!(command(&["send", "stall-3", "on", "--id", "x", "--wait", "1ms"]), 1, "nobody answers");
        let replied = Change::Replied { device: "stall-3", correlation: None, payload: b"ok" };
        outbox.apply(&[replied], clock::wall_ms()).unwrap();
        assert_eq!(command(&["send", "stall-3", "on", "--id", "x", "--wait", "20s", "--json-output"]), 0);
        assert_eq!(command(&["list", "--device", "stall-3", "--state", "replied", "--limit", "9"]), 0);
        assert_eq!(command(&["list", "--state", "gone"]), 64);
        assert_eq!(command(&["show", "stall-3", "x", "--json"]), 0);
        assert_eq!(command(&["cancel", "stall-3", "x"]), 64, "it waits no more");
        assert_eq!(command(&["show", "barn", "x"]), 64, "there is none");
        assert_eq!((outbox.list(&Default::default(), 9).len(), outbox.pending_count()), (1, 0));
        runtime.shutdown_background();
    }

    #[test]
    fn what_is_sent_is_one_payload() {
        use clap::Parser as _;
        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(flatten)]
            send: SendArguments,
        }
        let asked = |words: &[&str]| {
            let line = Line::try_parse_from(["send", "stall-3"].iter().chain(words)).ok()?;
            request(&line.send).ok()
        };
        let text = asked(&["fan on", "--id", "x", "--expires-in", "2h"]).unwrap();
        assert_eq!((text.payload.as_deref(), text.id.as_deref()), (Some("fan on"), Some("x")));
        assert_eq!(asked(&["--json", "{\"a\": 1}"]).unwrap().json, Some(serde_json::json!({ "a": 1 })));
        for wrong in [
            &[][..],
            &["on", "--json", "1"],
            &["--json", "{"],
            &["--file", "/not/there"],
            &["on", "--wait", "x"],
        ] {
            assert_eq!(asked(wrong), None, "{wrong:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("payload");
        std::fs::write(&file, [0xFF, 0]).unwrap();
        assert_eq!(
            asked(&["--file", file.to_str().unwrap()]).unwrap().payload_base64.as_deref(),
            Some("/wA=")
        );
    }
}
