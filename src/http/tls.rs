//! TLS as the web configuration asks for it, by rustls.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, NamedGroup, RootCertStore, ServerConfig, SignatureScheme,
    SupportedCipherSuite, SupportedProtocolVersion,
};

use super::certificate::{Facts, facts};
use crate::config::{ClientAuth, TlsFile, TlsVersion};

/// The parts of a TLS configuration that stand in PEM.
pub(super) struct Pem<'a> {
    pub(super) cert: &'a [u8],
    pub(super) key: &'a [u8],
    pub(super) client_ca: Option<&'a [u8]>,
}

/// Puts a server's configuration together.
///
/// # Errors
/// A sentence that names the key of the file, and holds no secret: errors of the PEM reader quote lines, and are not repeated.
pub(super) fn server_config(file: &TlsFile, pem: &Pem<'_>) -> Result<ServerConfig, String> {
    let mut provider = ring::default_provider();
    if let Some(suites) = &file.suites {
        let all = std::mem::take(&mut provider.cipher_suites);
        let by_name = |name: &&str| all.iter().find(|suite| suite_name(suite) == *name).copied();
        provider.cipher_suites =
            all.iter().filter(|suite| suite.tls13().is_some()).copied().chain(suites.iter().filter_map(by_name)).collect();
    }
    if let Some(curves) = &file.curves {
        let all = std::mem::take(&mut provider.kx_groups);
        provider.kx_groups = curves.iter().filter_map(|name| all.iter().find(|group| curve_name(group.name()) == *name).copied()).collect();
    }
    let provider = Arc::new(provider);
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem.cert)
        .collect::<Result<_, _>>()
        .ok()
        .filter(|chain: &Vec<_>| !chain.is_empty())
        .ok_or("cert: it holds no certificate in PEM")?;
    let key = PrivateKeyDer::from_pem_slice(pem.key).map_err(|_| "key: it holds no private key in PEM that is not encrypted")?;
    let key = CertifiedKey::from_der(chain, key, &provider).map_err(|error| match error {
        Error::InconsistentKeys(_) => "key: it is not the key of the certificate".to_owned(),
        Error::InvalidCertificate(_) => "cert: its first certificate cannot be read".to_owned(),
        _ => "key: keys of this kind are not understood: RSA from 2048 bits on, P-256, P-384 and Ed25519 are".to_owned(),
    })?;
    let versions: Vec<&'static SupportedProtocolVersion> =
        [(TlsVersion::Tls13, &rustls::version::TLS13), (TlsVersion::Tls12, &rustls::version::TLS12)]
            .into_iter()
            .filter(|(version, _)| (file.min_version..=file.max_version).contains(version))
            .filter(|(version, _)| *version == TlsVersion::Tls13 || file.suites.as_ref().is_none_or(|suites| !suites.is_empty()))
            .map(|(_, version)| version)
            .collect();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions)
        .map_err(|_| "cipher_suites, curve_preferences and versions leave nothing to agree upon".to_owned())?;
    let resolver = Arc::new(SingleCertAndKey::from(key));
    let mut config = match file.client_auth {
        ClientAuth::None => builder.with_no_client_auth().with_cert_resolver(resolver),
        _ => builder.with_client_cert_verifier(Arc::new(Clients::new(file, pem.client_ca, &provider)?)).with_cert_resolver(resolver),
    };
    config.ignore_client_order = file.prefer_own_order && file.suites.is_some();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    if file.client_auth != ClientAuth::None {
        // A resumed session is let in without another look at the certificate, which may have expired since.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}

/// Go's name; rustls' own differs for TLS 1.3 only, which is not asked for.
fn suite_name(suite: &SupportedCipherSuite) -> &'static str {
    suite.suite().as_str().unwrap_or_default()
}

fn curve_name(group: NamedGroup) -> &'static str {
    match group {
        NamedGroup::X25519 => "X25519",
        NamedGroup::secp256r1 => "CurveP256",
        NamedGroup::secp384r1 => "CurveP384",
        _ => "",
    }
}

/// Decides about clients' certificates as Go's five policies do.
#[derive(Debug)]
struct Clients {
    /// Whether one without is sent away.
    mandatory: bool,
    /// Verifies chains; `None`: any certificate does, as long as its bearer has its key.
    chains: Option<Arc<dyn ClientCertVerifier>>,
    /// The certificates of the client CA: to Go each of them may also be a client's own, which self-signed ones are.
    own: Vec<CertificateDer<'static>>,
    /// One of these has to be among the names.
    names: Option<BTreeSet<String>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Clients {
    fn new(file: &TlsFile, client_ca: Option<&[u8]>, provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let own: Vec<CertificateDer<'static>> = match client_ca {
            Some(pem) => CertificateDer::pem_slice_iter(pem)
                .collect::<Result<_, _>>()
                .ok()
                .filter(|found: &Vec<_>| !found.is_empty())
                .ok_or("client_ca: it holds no certificate in PEM")?,
            None => Vec::new(),
        };
        let chains = if file.client_auth.verifies() {
            let mut roots = RootCertStore::empty();
            for certificate in &own {
                roots.add(certificate.clone()).map_err(|_| "client_ca: one of its certificates cannot be read")?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider)).build();
            Some(verifier.map_err(|_| "client_ca: it holds no certificate of a CA")?)
        } else {
            None
        };
        // An address is written in one way only.
        let canonical =
            |name: &String| name.parse::<std::net::IpAddr>().map_or_else(|_| name.clone(), |address| address.to_canonical().to_string());
        Ok(Self {
            // With an allow list of names, one without a certificate has none of them.
            mandatory: matches!(file.client_auth, ClientAuth::RequireAny | ClientAuth::RequireAndVerify) || file.client_sans.is_some(),
            chains,
            own,
            names: file.client_sans.as_ref().map(|names| names.iter().map(canonical).collect()),
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

/// Whether the certificate itself is valid for a client at this time.
fn is_current(found: &Facts, now: UnixTime) -> bool {
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    found.is_for_clients && (found.not_before..=found.not_after).contains(&now)
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chains.as_ref().map_or(&[], |chains| chains.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let found = facts(end_entity);
        if let Some(chains) = &self.chains
            && let Err(error) = chains.verify_client_cert(end_entity, intermediates, now)
        {
            let is_own = self.own.iter().any(|certificate| certificate == end_entity);
            if !is_own || !found.as_ref().is_some_and(|found| is_current(found, now)) {
                return Err(error);
            }
        }
        if let Some(names) = &self.names
            && !found.is_some_and(|found| found.names.iter().any(|name| names.contains(name)))
        {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, ServerConnection};

    use super::*;
    use crate::config::Source;

    /// A certificate with its key, in PEM.
    #[derive(Clone)]
    struct Bearer {
        cert: String,
        key: String,
    }

    struct Ca(CertifiedIssuer<'static, KeyPair>);

    impl Ca {
        fn new() -> Self {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
        }

        fn pem(&self) -> String {
            self.0.pem()
        }

        fn signs(&self, change: impl FnOnce(&mut CertificateParams)) -> Bearer {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            change(&mut params);
            Bearer { cert: params.signed_by(&key, &self.0).unwrap().pem(), key: key.serialize_pem() }
        }
    }

    fn own_signature(change: impl FnOnce(&mut CertificateParams)) -> Bearer {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["myself".to_owned()]).unwrap();
        change(&mut params);
        Bearer { cert: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
    }

    fn file(client_auth: ClientAuth) -> TlsFile {
        TlsFile {
            cert: Source::Inline(String::new()),
            key: Source::Inline(String::new()),
            client_auth,
            client_ca: None,
            client_sans: None,
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
            suites: None,
            prefer_own_order: true,
            curves: None,
        }
    }

    fn client(ca: &Ca, bearer: Option<&Bearer>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        match bearer {
            None => builder.with_no_client_auth(),
            Some(Bearer { cert, key }) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
        }
    }

    /// A handshake in memory; what was agreed upon, or why not.
    fn handshake(server: ServerConfig, client: ClientConfig) -> Result<ServerConnection, Error> {
        let mut client = ClientConnection::new(Arc::new(client), ServerName::try_from("localhost").unwrap()).unwrap();
        let mut server = ServerConnection::new(Arc::new(server)).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            let mut bytes = &*bytes;
            while !bytes.is_empty() {
                server.read_tls(&mut bytes).unwrap();
                server.process_new_packets()?;
            }
            let mut bytes = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            let mut bytes = &*bytes;
            while !bytes.is_empty() {
                client.read_tls(&mut bytes).unwrap();
                client.process_new_packets()?;
            }
        }
        Ok(server)
    }

    fn configured(file: &TlsFile, bearer: &Bearer, client_ca: Option<&str>) -> Result<ServerConfig, String> {
        server_config(file, &Pem { cert: bearer.cert.as_bytes(), key: bearer.key.as_bytes(), client_ca: client_ca.map(str::as_bytes) })
    }

    #[test]
    fn the_five_policies_are_go_s() {
        let (ca, other) = (Ca::new(), Ca::new());
        let server = ca.signs(|_| ());
        let clients = [
            ("none", None),
            ("good", Some(ca.signs(|_| ()))),
            ("unknown", Some(other.signs(|_| ()))),
            ("expired", Some(ca.signs(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1)))),
            ("server's", Some(ca.signs(|params| params.extended_key_usages.push(rcgen::ExtendedKeyUsagePurpose::ServerAuth)))),
        ];
        for (policy, let_in) in [
            (ClientAuth::None, &["none", "good", "unknown", "expired", "server's"][..]),
            (ClientAuth::Request, &["none", "good", "unknown", "expired", "server's"]),
            (ClientAuth::RequireAny, &["good", "unknown", "expired", "server's"]),
            (ClientAuth::VerifyIfGiven, &["none", "good"]),
            (ClientAuth::RequireAndVerify, &["good"]),
        ] {
            for (name, bearer) in &clients {
                let config = configured(&file(policy), &server, policy.verifies().then(|| ca.pem()).as_deref()).unwrap();
                let done = handshake(config, client(&ca, bearer.as_ref()));
                assert_eq!(done.is_ok(), let_in.contains(name), "{policy:?} {name}: {:?}", done.err());
            }
        }
    }

    #[test]
    fn a_certificate_that_is_its_own_ca_is_let_in_while_it_is_valid() {
        let ca = Ca::new();
        let server = ca.signs(|_| ());
        let ours = own_signature(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
        let theirs = own_signature(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
        let expired = own_signature(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
        let pem = format!("{}{}", ours.cert, expired.cert);
        for (bearer, expected) in [(&ours, true), (&theirs, false), (&expired, false)] {
            let config = configured(&file(ClientAuth::RequireAndVerify), &server, Some(&pem)).unwrap();
            assert_eq!(handshake(config, client(&ca, Some(bearer))).is_ok(), expected);
        }
    }

    #[test]
    fn names_are_taken_as_they_stand() {
        let ca = Ca::new();
        let server = ca.signs(|_| ());
        let bearer = ca.signs(|params| {
            params.subject_alt_names = vec![
                SanType::DnsName("*.a.example".try_into().unwrap()),
                SanType::Rfc822Name("me@example".try_into().unwrap()),
                SanType::IpAddress("2001:db8::1".parse().unwrap()),
            ];
        });
        for (allowed, expected) in [
            ("*.a.example", true),
            ("x.a.example", false),
            ("me@example", true),
            ("2001:0db8:0::1", true),
            ("2001:db8::2", false),
            ("localhost", false),
        ] {
            for policy in [ClientAuth::RequireAndVerify, ClientAuth::VerifyIfGiven] {
                let file = TlsFile { client_sans: Some(vec!["other".to_owned(), allowed.to_owned()]), ..file(policy) };
                let config = || configured(&file, &server, Some(&ca.pem())).unwrap();
                assert_eq!(handshake(config(), client(&ca, Some(&bearer))).is_ok(), expected, "{allowed}");
                assert!(handshake(config(), client(&ca, None)).is_err(), "nobody has no name");
            }
        }
    }

    #[test]
    fn versions_suites_and_curves_are_kept() {
        let ca = Ca::new();
        let server = ca.signs(|_| ());
        let agreed = |file: &TlsFile| {
            let done = handshake(configured(file, &server, None).unwrap(), client(&ca, None)).unwrap();
            let suite = suite_name(&done.negotiated_cipher_suite().unwrap());
            (done.protocol_version().unwrap(), suite, curve_name(done.negotiated_key_exchange_group().unwrap().name()))
        };
        let none = file(ClientAuth::None);
        let newest = TlsFile { curves: Some(vec!["CurveP384"]), ..none.clone() };
        let (version, _, curve) = agreed(&newest);
        assert_eq!((version, curve), (rustls::ProtocolVersion::TLSv1_3, "CurveP384"));
        let suite = "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256";
        let oldest = TlsFile {
            max_version: TlsVersion::Tls12,
            suites: Some(vec![suite, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]),
            ..none.clone()
        };
        let (version, agreed_suite, _) = agreed(&oldest);
        assert_eq!((version, agreed_suite), (rustls::ProtocolVersion::TLSv1_2, suite), "the order is the file's");
        let client_order = agreed(&TlsFile { prefer_own_order: false, ..oldest });
        assert_eq!(client_order.1, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384");
        assert_eq!(agreed(&TlsFile { suites: Some(Vec::new()), ..none }).0, rustls::ProtocolVersion::TLSv1_3);
    }

    #[test]
    fn every_name_of_the_file_is_known_to_rustls() {
        let provider = ring::default_provider();
        let file = "tls_server_config:\n  cert: c\n  key: k\n";
        let refused = crate::config::web::parse(&format!("{file}  cipher_suites: [x]\n"), std::path::Path::new("")).unwrap_err();
        let suites: Vec<&str> = refused.split("known; ").nth(1).unwrap().trim_end_matches(" are").split(", ").collect();
        assert!(
            suites.len() == 6 && suites.iter().all(|name| provider.cipher_suites.iter().any(|suite| suite_name(suite) == *name)),
            "{suites:?}"
        );
        let refused = crate::config::web::parse(&format!("{file}  curve_preferences: [x]\n"), std::path::Path::new("")).unwrap_err();
        let curves: Vec<&str> = refused.split("known; ").nth(1).unwrap().trim_end_matches(" are").split(", ").collect();
        assert!(
            curves.len() == 3 && curves.iter().all(|name| provider.kx_groups.iter().any(|group| curve_name(group.name()) == *name)),
            "{curves:?}"
        );
    }

    #[test]
    fn what_cannot_be_used_is_said_without_secrets() {
        let ca = Ca::new();
        let (one, two) = (ca.signs(|_| ()), ca.signs(|_| ()));
        let none = file(ClientAuth::None);
        let verified = file(ClientAuth::RequireAndVerify);
        let mixed = Bearer { cert: one.cert.clone(), key: two.key };
        let no_key = Bearer { cert: one.cert.clone(), key: "geheim".to_owned() };
        let broken_key = Bearer { cert: one.cert.clone(), key: "-----BEGIN PRIVATE KEY geheim\ngeheim\n".to_owned() };
        let no_cert = Bearer { cert: "geheim".to_owned(), key: one.key.clone() };
        for (file, bearer, client_ca, expected) in [
            (&none, &mixed, None, "key: it is not the key of the certificate"),
            (&none, &no_key, None, "key: it holds no private key"),
            (&none, &broken_key, None, "key: it holds no private key"),
            (&none, &no_cert, None, "cert: it holds no certificate"),
            (&verified, &one, Some("nothing"), "client_ca: it holds no certificate"),
        ] {
            let said = configured(file, bearer, client_ca).unwrap_err();
            assert!(said.contains(expected) && !said.contains("geheim"), "{said}");
        }
    }
}
