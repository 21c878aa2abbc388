//! Stand-ins over real sockets: what a client sees of the limits.

use bytes::BytesMut;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio_rustls::TlsConnector;

use super::{sas::SharedAccess, *};
use crate::{
    ca::Ca,
    client::Client,
    clock::{now, wait_for, within},
    codec::{self, Ack, Connect, Packet, Publish, Version},
};

const LIMIT: Duration = Duration::from_secs(20);

async fn connect(cloud: &StandIn, client_id: &str) -> Client {
    let connect = Connect { version: Version::V5, client_id, clean: true, keep_alive_s: 60 };
    Client::connect(cloud.address, &connect).await.unwrap()
}

fn put(client: &mut Client, packet_id: u16) {
    let payload = crate::oracle::payload("d", packet_id.into());
    let topic = format!("{PREFIX}{}", crate::oracle::topic_of("d"));
    let payload = payload.as_bytes();
    client.put_publish(&Publish {
        topic: &topic,
        payload,
        qos: 1,
        packet_id,
        dup: false,
        user_properties: &[],
    });
}

#[tokio::test]
async fn a_message_is_acknowledged_after_its_time_and_written_down() {
    let cloud = StandIn::start(platforms::broker()).await;
    let delay = Duration::from_millis(300);
    cloud.change_behaviour(|behaviour| behaviour.ack_after = delay);
    let mut client = connect(&cloud, "c").await;
    let start = now();
    put(&mut client, 1);
    client.flush().await.unwrap();
    assert_eq!(client.next().await, Packet::Ack { ack: Ack::PubAck, packet_id: 1, reason: 0 });
    assert!(start.elapsed() >= delay);
    cloud.seen(|seen| {
        assert_eq!((seen.taken(), seen.messages[0].client_id.as_str(), seen.connections.len()), (1, "c", 1));
        assert!(seen.breaches.is_empty());
    });
}

#[tokio::test]
async fn aws_discards_what_is_over_the_rate_and_the_connection_stays() {
    let cloud = StandIn::start(platforms::aws_iot()).await;
    cloud.change_behaviour(|behaviour| behaviour.ack_after = Duration::ZERO);
    let mut client = connect(&cloud, "c").await;
    for half in 0..2 {
        (1..=75).for_each(|n| put(&mut client, half * 75 + n));
        client.flush().await.unwrap();
        wait_for("the messages", LIMIT, || {
            cloud.seen(|seen| seen.messages.len()) == usize::from(half + 1) * 75
        })
        .await;
    }
    let taken = cloud.seen(Seen::taken);
    assert!((100..130).contains(&taken), "{taken}");
    assert_eq!(cloud.seen(Seen::breaches)[&Breach::Rate], 150 - taken);
    codec::put_pingreq(&mut client.output);
    client.flush().await.unwrap();
    while client.next().await != Packet::PingResp {}
}

#[tokio::test]
async fn emqx_reads_more_slowly_from_who_is_too_fast() {
    let mut limits = platforms::emqx_serverless("u", "p");
    limits.identity = limits::Identity::Anyone;
    let cloud = StandIn::start(limits).await;
    let mut client = connect(&cloud, "c").await;
    let start = now();
    (1..=20).for_each(|n| put(&mut client, n));
    client.flush().await.unwrap();
    for packet_id in 1..=20 {
        assert_eq!(client.next().await, Packet::Ack { ack: Ack::PubAck, packet_id, reason: 0 });
    }
    assert!(start.elapsed() >= Duration::from_millis(900), "{:?}", start.elapsed());
    assert!(cloud.seen(Seen::breaches).is_empty());
}

#[tokio::test]
async fn an_iot_hub_closes_when_the_token_is_over() {
    let access = SharedAccess::new("hub.example", "gate");
    let cloud = StandIn::start(platforms::azure_iot_hub(access.clone())).await;
    let hello = Connect { version: Version::V311, client_id: "gate", clean: true, keep_alive_s: 60 };
    let mut client = Client::open(cloud.address, Version::V311).await.unwrap();
    let token = access.token(clock::unix_s() + 2);
    codec::put_connect_as(&mut client.output, &hello, Some((&access.user(), &token)));
    client.flush().await.unwrap();
    assert!(matches!(client.next().await, Packet::ConnAck { reason: 0, .. }));
    assert!(client.until_closed().await.is_empty());
    assert_eq!(cloud.seen(Seen::breaches)[&Breach::TokenOver], 1);
}

#[tokio::test]
async fn a_connection_takes_over_from_an_older_one_of_its_client_but_not_too_soon() {
    let cloud = StandIn::start(platforms::broker()).await;
    let mut first = connect(&cloud, "c").await;
    let _second = connect(&cloud, "c").await;
    assert!(first.until_closed().await.is_empty());
    let aws = StandIn::start(platforms::aws_iot()).await;
    let _first = connect(&aws, "c").await;
    let hello = Connect { version: Version::V5, client_id: "c", clean: true, keep_alive_s: 60 };
    assert!(Client::connect(aws.address, &hello).await.is_err());
    assert_eq!(aws.seen(Seen::breaches)[&Breach::ConnectRate], 1);
}

#[tokio::test]
async fn a_server_with_tls_asks_for_its_name_a_protocol_and_a_certificate() {
    let (ca, host) = (Ca::new().unwrap(), "abc-ats.iot.example");
    let tls = ServerTls::new(host, ca.server_called(host).unwrap().der(), Some(&ca)).unwrap();
    let cloud = StandIn::start_behind(platforms::aws_iot(), tls.with_protocol("x-amzn-mqtt-ca")).await;
    let other = "10.0.0.1";
    let table = [
        (host, Some("x-amzn-mqtt-ca"), true, None),
        (host, Some("x-amzn-mqtt-ca"), false, Some(Breach::Handshake)),
        (host, None, true, Some(Breach::Protocol)),
        (other, Some("x-amzn-mqtt-ca"), true, Some(Breach::HostName)),
    ];
    for (name, protocol, is_certified, breach) in table {
        let mut roots = RootCertStore::empty();
        roots.add(ca.der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_root_certificates(roots);
        let mut config = if is_certified {
            let (certificate, key) = ca.client("gate").unwrap().der();
            config.with_client_auth_cert(vec![certificate], key).unwrap()
        } else {
            config.with_no_client_auth()
        };
        config.enable_sni = name == host;
        config.alpn_protocols.extend(protocol.map(|name| name.as_bytes().to_vec()));
        let stream = TcpStream::connect(cloud.address).await.unwrap();
        let name = ServerName::try_from(host).unwrap();
        let Ok(mut stream) = TlsConnector::from(Arc::new(config)).connect(name, stream).await else {
            panic!("the client's side of the handshake comes first in TLS 1.3")
        };
        let mut hello = BytesMut::new();
        let connect = Connect { version: Version::V5, client_id: "c", clean: true, keep_alive_s: 60 };
        codec::put_connect(&mut hello, &connect);
        let _ = stream.write_all(&hello).await;
        let mut answer = [0; 4];
        let answered = within("an answer or the end", LIMIT, stream.read_exact(&mut answer)).await;
        assert_eq!(answered.is_ok(), breach.is_none(), "{breach:?}");
        match breach {
            Some(breach) => {
                wait_for("the breach", LIMIT, || cloud.seen(|seen| seen.breaches().contains_key(&breach)))
                    .await;
            }
            None => assert_eq!(answer[0], 0x20),
        }
    }
}
