//! A local tool on rumqttc, which does what it is told on its standard input and leaves with
//! DISCONNECT at its end.
//!
//! `rumqttc_tool PORT VERSION NAME CLEAN WILL`: what it is told and what it says is as in
//! `tests/clients/paho_tool.py`. It ends with the connection, and does not connect again.

use std::io::BufRead;

use tokio::sync::mpsc::{Receiver, channel};

/// Requests that wait at most.
const REQUESTS: usize = 100;
/// How long a session that is kept outlives its connection, in seconds.
const EXPIRY_S: u32 = 3600;

/// The same tool over each of rumqttc's halves, whose types have the same names and nothing in
/// common.
macro_rules! tool {
    ($version:ident, $($half:ident)::+) => {
        mod $version {
            use std::time::Duration;

            use rumqttc::Outgoing;
            use tokio::sync::mpsc::Receiver;
            use $($half)::+::{
                AsyncClient, Event, MqttOptions,
                mqttbytes::{
                    QoS,
                    $version::{LastWill, Packet, SubscribeReasonCode},
                },
            };

            pub type Options = MqttOptions;
            pub type Will = LastWill;
            pub const WILL_QOS: QoS = QoS::AtLeastOnce;

            fn qos(word: &str) -> QoS {
                [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(word.as_bytes()[0] - b'0')]
            }

            pub async fn run(mut options: MqttOptions, lines: Receiver<String>) {
                options.set_keep_alive(Duration::from_secs(60));
                let (client, mut events) = AsyncClient::new(options, super::REQUESTS);
                let obeying = tokio::spawn(obey(client, lines));
                while let Ok(event) = events.poll().await {
                    hear(event);
                }
                obeying.abort();
            }

            async fn obey(client: AsyncClient, mut lines: Receiver<String>) {
                while let Some(line) = lines.recv().await {
                    let words: Vec<_> = line.split(' ').collect();
                    let asked = match words[..] {
                        ["subscribe", level, filter] => client.subscribe(filter, qos(level)).await,
                        ["unsubscribe", filter] => client.unsubscribe(filter).await,
                        ["publish", level, retain, topic, text] => {
                            client.publish(topic, qos(level), retain == "1", text.as_bytes().to_vec()).await
                        }
                        _ => panic!("what is {line:?}?"),
                    };
                    asked.expect("the loop runs");
                }
                client.disconnect().await.expect("the loop runs");
            }

            fn hear(event: Event) {
                match event {
                    Event::Incoming(Packet::ConnAck(connack)) => {
                        println!("connected {}", u8::from(connack.session_present));
                    }
                    Event::Incoming(Packet::SubAck(suback)) => {
                        let code = match suback.return_codes[0] {
                            SubscribeReasonCode::Success(qos) => qos as u8,
                            _ => 0x80,
                        };
                        println!("granted {code}");
                    }
                    Event::Incoming(Packet::UnsubAck(_)) => println!("unsubscribed"),
                    Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)) | Event::Outgoing(Outgoing::Publish(0)) => {
                        println!("published");
                    }
                    Event::Incoming(Packet::Publish(publish)) => {
                        let topic = String::from_utf8(Vec::from(publish.topic)).expect("topics are UTF-8");
                        let text = String::from_utf8_lossy(&publish.payload);
                        println!("message {} {} {topic} {text}", publish.qos as u8, u8::from(publish.retain));
                    }
                    _ => {}
                }
            }
        }
    };
}

tool!(v4, rumqttc);
tool!(v5, rumqttc::v5);

fn lines() -> Receiver<String> {
    let (lines_in, lines) = channel(REQUESTS);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let _ = lines_in.blocking_send(line);
        }
    });
    lines
}

#[tokio::main]
async fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [port, version, name, clean, will] = &arguments[..] else {
        panic!("rumqttc_tool PORT VERSION NAME CLEAN WILL");
    };
    let (port, clean) = (port.parse().expect("a port"), clean == "1");
    if version == "5" {
        let mut options = v5::Options::new(name, "127.0.0.1", port);
        options.set_clean_start(clean).set_session_expiry_interval((!clean).then_some(EXPIRY_S));
        if will != "-" {
            options.set_last_will(v5::Will::new(will, "gone", v5::WILL_QOS, false, None));
        }
        v5::run(options, lines()).await;
    } else {
        let mut options = v4::Options::new(name, "127.0.0.1", port);
        options.set_clean_session(clean);
        if will != "-" {
            options.set_last_will(v4::Will::new(will, "gone", v4::WILL_QOS, false));
        }
        v4::run(options, lines()).await;
    }
}
