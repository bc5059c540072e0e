//! Links with certificates on both sides.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::cluster::bridge::{BridgeTls, TLS_NAME, tls::Encryption};

use super::stage::{Cluster, Heard, Pod, Traits, Wire, introduce, introduce_over, meet, until};

/// An authority of the test's own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// The files of a pod: a certificate for this name, its key, and the authority that the pod trusts.
    fn files(&self, directory: &Path, name: &str, trusted: &Self) -> BridgeTls {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let write = |file: &str, text: String| {
            let path = directory.join(file);
            std::fs::write(&path, text).unwrap();
            path
        };
        BridgeTls {
            certificate: write("certificate.pem", certificate.pem()),
            key: write("key.pem", key.serialize_pem()),
            ca: write("ca.pem", trusted.0.pem()),
        }
    }
}

/// A pod with TLS; its files may go once it listens.
async fn pod(
    cluster: Cluster,
    name: &'static str,
    authority: &Authority,
    trusted: &Authority,
    tls_name: &str,
) -> Pod {
    let directory = TempDir::new().unwrap();
    let tls = Some(authority.files(directory.path(), tls_name, trusted));
    cluster.pod(name, Traits { tls, ..Traits::default() }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_with_certificates_of_the_same_authority_are_linked_and_nothing_is_sent_in_clear() {
    let (cluster, authority) = (Cluster("tls"), Authority::new());
    let a = pod(cluster, "a", &authority, &authority, TLS_NAME).await;
    let b = pod(cluster, "b", &authority, &authority, TLS_NAME).await;
    let wire = Wire::to(b.address()).await;
    introduce_over(&a, &b, wire.address);
    meet(&a, &b).await;
    let frame = b"a frame that nobody in between can read".repeat(100);
    a.send(&b, &frame).await;
    b.journal.expect(Heard::Frame("a", frame.clone())).await;
    b.send(&a, &frame).await;
    a.journal.expect(Heard::Frame("b", frame)).await;
    assert!(!wire.has_carried(b"nobody in between") && !wire.has_carried(b"colloquy-bridge/"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_bridge_comes_back_with_tls() {
    let (cluster, authority, directory) = (Cluster("tlskill"), Authority::new(), TempDir::new().unwrap());
    let a = pod(cluster, "a", &authority, &authority, TLS_NAME).await;
    let tls = Some(authority.files(directory.path(), TLS_NAME, &authority));
    let b = cluster.pod("b", Traits { tls, ..Traits::default() }).await;
    introduce(&[&a, &b]);
    meet(&a, &b).await;
    b.kill_bridge().await;
    a.journal.expect(Heard::Down("b")).await;
    b.journal.expect(Heard::Down("a")).await;
    meet(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_refused_if_its_authority_is_another_or_its_certificate_is_for_another_name() {
    let (cluster, ours, theirs) = (Cluster("tlsserver"), Authority::new(), Authority::new());
    let a = pod(cluster, "a", &ours, &ours, TLS_NAME).await;
    // It would let everybody of ours in; it is for the dialling side to refuse.
    let b = pod(cluster, "b", &theirs, &ours, TLS_NAME).await;
    let c = pod(cluster, "c", &ours, &ours, "colloquy.example").await;
    never_linked(&a, &b).await;
    never_linked(&a, &c).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_refused_if_its_authority_is_another_or_it_shows_no_certificate() {
    let (cluster, ours, theirs) = (Cluster("tlsclient"), Authority::new(), Authority::new());
    let a = pod(cluster, "a", &theirs, &ours, TLS_NAME).await;
    let b = pod(cluster, "b", &ours, &ours, TLS_NAME).await;
    never_linked(&a, &b).await;
    let in_clear = cluster.pod("a", Traits { incarnation: 2, ..Traits::default() }).await;
    never_linked(&in_clear, &b).await;
}

async fn never_linked(a: &Pod, b: &Pod) {
    let wire = Wire::to(b.address()).await;
    introduce_over(a, b, wire.address);
    until(|| wire.connections() == 4).await;
    assert_eq!((a.journal.rest(), b.journal.rest()), (vec![], vec![]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_that_does_not_finish_its_handshake_holds_nobody_up() {
    let (cluster, authority) = (Cluster("tlsslow"), Authority::new());
    let a = pod(cluster, "a", &authority, &authority, TLS_NAME).await;
    let b = pod(cluster, "b", &authority, &authority, TLS_NAME).await;
    let mut strangers = Vec::new();
    for _ in 0..8 {
        strangers.push(TcpStream::connect(b.address()).await.unwrap());
    }
    introduce(&[&a, &b]);
    meet(&a, &b).await;
}

#[test]
fn files_that_are_missing_or_hold_something_else_are_named() {
    let (authority, directory) = (Authority::new(), TempDir::new().unwrap());
    let good = authority.files(directory.path(), TLS_NAME, &authority);
    assert!(Encryption::load(Some(&good)).is_ok() && Encryption::load(None).is_ok());
    let missing = directory.path().join("missing.pem");
    for bad in [
        BridgeTls { certificate: missing, ..good.clone() },
        BridgeTls { ca: good.key.clone(), ..good.clone() },
        BridgeTls { key: good.certificate.clone(), ..good },
    ] {
        let Err(error) = Encryption::load(Some(&bad)) else { panic!("{bad:?} cannot be used") };
        assert!(error.to_string().contains(".pem"), "{error}");
    }
}
