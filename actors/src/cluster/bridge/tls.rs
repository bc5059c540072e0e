//! TLS 1.3 with certificates on both sides.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::options::{BridgeTls, TLS_NAME};
use super::transport::Transport;

/// The files do not make a TLS end.
#[derive(Debug, thiserror::Error)]
pub enum TlsUnusable {
    /// A file cannot be read, or is not PEM of its kind.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// A file holds no certificate.
    #[error("{path} holds no certificate")]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// Its contents do not fit together.
    #[error("certificate, key and authority do not fit together")]
    Contents(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Both ends of TLS, as this pod plays them; or neither.
#[derive(Clone)]
pub(super) struct Encryption(Option<(TlsAcceptor, TlsConnector)>);

impl Encryption {
    /// As configured.
    pub(super) fn load(files: Option<&BridgeTls>) -> Result<Self, TlsUnusable> {
        files.map(ends).transpose().map(Self)
    }

    /// For `ractor_cluster`'s own listener, which nobody is to use.
    pub(super) fn acceptor(&self) -> Option<TlsAcceptor> {
        self.0.as_ref().map(|(acceptor, _)| acceptor.clone())
    }

    /// The accepting side's handshake, without a deadline.
    pub(super) async fn accept(&self, transport: Transport) -> std::io::Result<Transport> {
        let Some((acceptor, _)) = &self.0 else { return Ok(transport) };
        transport.wrapped(|stream| acceptor.accept(stream)).await
    }

    /// The dialling side's handshake, without a deadline.
    pub(super) async fn connect(&self, transport: Transport) -> std::io::Result<Transport> {
        let Some((_, connector)) = &self.0 else { return Ok(transport) };
        let name = ServerName::try_from(TLS_NAME).expect("it is a DNS name");
        transport.wrapped(|stream| connector.connect(name, stream)).await
    }
}

fn ends(files: &BridgeTls) -> Result<(TlsAcceptor, TlsConnector), TlsUnusable> {
    let contents = |error: rustls::Error| TlsUnusable::Contents(Box::new(error));
    let mut authorities = RootCertStore::empty();
    for authority in certificates(&files.ca)? {
        authorities.add(authority).map_err(contents)?;
    }
    let authorities = Arc::new(authorities);
    let own = certificates(&files.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&files.key);
    let key = key.map_err(|source| TlsUnusable::File { path: files.key.clone(), source })?;

    // Named, not the process's default: nobody may have installed one.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&authorities), Arc::clone(&provider))
            .build()
            .map_err(|error| TlsUnusable::Contents(Box::new(error)))?;
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(contents)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(own.clone(), key.clone_key())
        .map_err(contents)?;
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(contents)?
        .with_root_certificates(authorities)
        .with_client_auth_cert(own, key)
        .map_err(contents)?;
    Ok((TlsAcceptor::from(Arc::new(server)), TlsConnector::from(Arc::new(client))))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsUnusable> {
    let unreadable = |source| TlsUnusable::File { path: path.to_owned(), source };
    let read = CertificateDer::pem_file_iter(path).map_err(unreadable)?;
    let certificates = read.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    if certificates.is_empty() {
        return Err(TlsUnusable::Empty { path: path.to_owned() });
    }
    Ok(certificates)
}
