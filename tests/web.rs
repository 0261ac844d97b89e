//! The port as others meet it: TLS, certificates of clients, passwords, headers, codings, and what happens when many come or none asks.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test that cannot go on fails"
)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

fn skep(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_skep"));
    command.args(arguments).env_clear();
    command
}

/// A running agent with its log. Dropping it kills it.
struct Agent {
    child: Child,
    address: String,
    scheme: String,
    log: Arc<Mutex<String>>,
}

/// An answer: its status, its head, and its body.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn of(stream: &mut (impl Read + Write), path: &str, headers: &str) -> std::io::Result<Self> {
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        };
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        Ok(Self { status: head.split(' ').nth(1).unwrap().parse().unwrap(), head, body: answer[end + 4..].to_vec() })
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

impl Agent {
    fn start(arguments: &[&str]) -> Self {
        let mut all = vec!["--web.listen-address=127.0.0.1:0"];
        all.extend(arguments);
        Self::start_by(skep(&all))
    }

    fn start_by(mut command: Command) -> Self {
        let mut child = command
            .args(["--docker.host=unix:///nonexistent/docker.sock", "--collector.disable-defaults", "--collector.loadavg"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut before = String::new();
        let line = loop {
            let line = lines.next().unwrap_or_else(|| panic!("it says where it is: {before}")).unwrap();
            if line.contains("skep works") {
                break line;
            }
            before += &(line + "\n");
        };
        let place = line.split("page ").nth(1).unwrap().split(' ').next().unwrap();
        let (scheme, address) = place.split_once("://").unwrap();
        let log = Arc::new(Mutex::new(before));
        std::thread::spawn({
            let log = Arc::clone(&log);
            move || lines.map_while(Result::ok).for_each(|line| *log.lock().unwrap() += &(line + "\n"))
        });
        Self { child, address: address.trim_end_matches('/').to_owned(), scheme: scheme.to_owned(), log }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    fn get(&self, path: &str, headers: &str) -> Answer {
        Answer::of(&mut self.connect(), path, headers).unwrap()
    }

    fn secure(&self, client: &ClientConfig) -> StreamOwned<ClientConnection, TcpStream> {
        let connection = ClientConnection::new(Arc::new(client.clone()), ServerName::try_from("localhost").unwrap()).unwrap();
        StreamOwned::new(connection, self.connect())
    }

    fn get_tls(&self, client: &ClientConfig, path: &str, headers: &str) -> std::io::Result<Answer> {
        Answer::of(&mut self.secure(client), path, headers)
    }

    fn hang_up(&self) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), rustix::process::Signal::HUP).unwrap();
    }

    fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Polls until `done` says so.
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what} takes too long");
        std::thread::sleep(Duration::from_millis(50));
    }
}

struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate and its key, in PEM.
    fn signs(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned(), name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }

    fn put(&self, folder: &Path, name: &str) -> CertificateDer<'static> {
        let (cert, key) = self.signs(name);
        fs::write(folder.join("server.crt"), &cert).unwrap();
        fs::write(folder.join("server.key"), key).unwrap();
        CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()
    }

    fn client(&self, bearer: Option<(String, String)>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        match bearer {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
                    PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
                )
                .unwrap(),
        }
    }
}

const TLS: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";

/// The file and the flag that names it.
fn file(folder: &Path, text: &str) -> String {
    fs::write(folder.join("web.yml"), text).unwrap();
    format!("--web.config.file={}", folder.join("web.yml").display())
}

fn refused(arguments: &[&str]) -> String {
    let Output { status, stderr, .. } = skep(arguments).arg("--docker.host=unix:///nonexistent/docker.sock").output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(78), "{said}");
    let last = said.lines().last().unwrap().to_owned();
    assert!(last.starts_with("skep: "), "{said}");
    last
}

fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}")))
}

#[test]
fn tls_and_a_new_certificate_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new();
    let first = ca.put(folder.path(), "first");
    let agent = Agent::start(&[&file(folder.path(), TLS)]);
    assert_eq!(agent.scheme, "https");
    let client = ca.client(None);
    let answer = agent.get_tls(&client, "/metrics", "").unwrap();
    assert!(answer.status == 200 && answer.text().contains("node_load1{"));
    let presented = || {
        let mut stream = agent.secure(&client);
        Answer::of(&mut stream, "/healthz", "").map(|_| stream.conn.peer_certificates().unwrap()[0].clone()).unwrap()
    };
    assert_eq!(presented(), first);
    let plain = agent.get("/metrics", "");
    assert_eq!((plain.status, &*plain.text()), (400, "Client sent an HTTP request to an HTTPS server.\n"));
    assert!(agent.get_tls(&Ca::new().client(None), "/healthz", "").is_err(), "another CA's client does not trust it");
    // The certificate alone fits the old key no more: then the old pair stays.
    let mut kept_open = agent.secure(&client);
    write!(kept_open, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let (cert, key) = ca.signs("second");
    fs::write(folder.path().join("server.crt"), &cert).unwrap();
    until("the broken pair", || {
        let ready = agent.get_tls(&client, "/readyz", "").unwrap();
        ready.status == 503 && ready.text().contains("is not the key of the certificate; what was read before stays in force")
    });
    assert_eq!(presented(), first);
    fs::write(folder.path().join("server.key"), key).unwrap();
    let second = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
    until("the new certificate", || presented() == second);
    assert!(!agent.get_tls(&client, "/readyz", "").unwrap().text().contains("server.key"));
    assert_eq!(agent.log().matches("is not the key of the certificate").count(), 1, "it is said once: {}", agent.log());
    let mut head = [0; 15];
    kept_open.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200 OK", "a connection goes on with what it began with");
}

#[test]
fn clients_certificates_and_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let (ca, other) = (Ca::new(), Ca::new());
    ca.put(folder.path(), "server");
    fs::write(folder.path().join("ca.crt"), ca.0.pem()).unwrap();
    let text =
        format!("{TLS}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n  client_allowed_sans: [prometheus]\n");
    let flag = file(folder.path(), &text);
    let agent = Agent::start(&[&flag]);
    assert_eq!(agent.get_tls(&ca.client(Some(ca.signs("prometheus"))), "/healthz", "").unwrap().status, 200);
    assert!(agent.get_tls(&ca.client(Some(ca.signs("grafana"))), "/healthz", "").is_err());
    assert!(agent.get_tls(&ca.client(Some(other.signs("prometheus"))), "/healthz", "").is_err());
    assert!(agent.get_tls(&ca.client(None), "/healthz", "").is_err());
    // Another list, at once by SIGHUP.
    file(folder.path(), &text.replace("prometheus", "grafana"));
    agent.hang_up();
    until("the new list", || agent.get_tls(&ca.client(Some(ca.signs("grafana"))), "/healthz", "").is_ok());
    assert!(agent.get_tls(&ca.client(Some(ca.signs("prometheus"))), "/healthz", "").is_err());
    let check = skep(&["check", "--json", &flag]).output().unwrap();
    let found: serde_json::Value = serde_json::from_slice(&check.stdout).unwrap();
    let web = found["findings"].as_array().unwrap().iter().find(|finding| finding["subject"] == "web").unwrap();
    assert!(
        web["state"] == "ok" && web["detail"].as_str().unwrap().contains("clients need a certificate of the client CA with one of 1 names"),
        "{web}"
    );
    let config = String::from_utf8(skep(&["config", &flag]).output().unwrap().stdout).unwrap();
    assert!(config.contains("web.config.file = /") && config.contains("web.yml"), "{config}");
}

#[test]
fn passwords_headers_and_their_reread() {
    let folder = tempfile::tempdir().unwrap();
    let hash = |password: &str| bcrypt::hash(password, 4).unwrap();
    let text = |users: &str| {
        format!(
            "http_server_config:\n  headers:\n    X-Frame-Options: deny\n    Content-Security-Policy: default-src 'self'\nbasic_auth_users:\n{users}"
        )
    };
    let flag = file(folder.path(), &text(&format!("  alice: {}\n", hash("geheim"))));
    let agent = Agent::start(&[&flag, "--log.level=debug"]);
    for path in ["/", "/metrics", "/healthz", "/readyz", "/nothing"] {
        for headers in
            [String::new(), basic("alice", "falsch"), basic("bob", "geheim"), basic("", ""), "Authorization: Bearer x\r\n".to_owned()]
        {
            let answer = agent.get(path, &headers);
            assert!(answer.status == 401 && answer.head.contains("www-authenticate: Basic"), "{path} {headers}");
            assert!(answer.head.contains("x-frame-options: deny"));
        }
    }
    let alice = basic("alice", "geheim");
    let answer = agent.get("/", &alice);
    assert_eq!(answer.status, 200);
    assert!(
        answer.head.contains("x-frame-options: deny") && answer.head.contains("content-security-policy: default-src 'self'"),
        "{}",
        answer.head
    );
    assert_eq!(answer.head.matches("content-security-policy").count(), 1);
    assert!(agent.get("/metrics", &alice).text().contains("skep_http_refused_total{"));
    // Another user, without a restart and without a signal.
    file(folder.path(), &text(&format!("  carol: {}\n", hash("neu"))));
    let carol = basic("carol", "neu");
    until("the new user", || agent.get("/healthz", &carol).status == 200);
    assert_eq!(agent.get("/healthz", &alice).status, 401);
    // What is broken changes nothing, nor does what would open the door.
    for (broken, said) in [
        (text("  carol: geheim\n"), "what stands for 'carol' is not a hash of bcrypt"),
        ("basic_auth_usres:\n".to_owned(), "'basic_auth_usres' is not a key of this file"),
        (String::new(), "has no users any more, which takes a restart"),
    ] {
        file(folder.path(), &broken);
        agent.hang_up();
        until(said, || agent.get("/readyz", &carol).text().contains(said));
        assert_eq!(agent.get("/metrics", "").status, 401);
    }
    fs::remove_file(folder.path().join("web.yml")).unwrap();
    until("the missing file", || agent.get("/readyz", &carol).text().contains("No such file"));
    file(folder.path(), &text(&format!("  alice: {}\n", hash("geheim"))));
    until("the mended file", || agent.get("/healthz", &alice).status == 200);
    for secret in ["geheim", "falsch", "neu\"", "$2"] {
        assert!(!agent.log().contains(secret), "{secret}: {}", agent.log());
    }
}

#[test]
fn what_cannot_be_used_ends_the_start_with_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new();
    for (text, said) in [
        (TLS, "server.crt: No such file"),
        ("tls_server_config:\n  cert_filse: x\n", "line 2: 'cert_filse' is not a key of tls_server_config"),
        ("basic_auth_users:\n  bob: geheim\n", "what stands for 'bob' is not a hash of bcrypt"),
        ("junk", "the file is not a table"),
        ("tls_server_config:\n  cert: geheim\n  key: geheim\n", "cert: it holds no certificate"),
        ("tls_server_config:\n  cert_file: .\n  key_file: .\n", "it is no file"),
    ] {
        let flag = file(folder.path(), text);
        let refused = refused(&["--web.listen-address=127.0.0.1:0", &flag]);
        assert!(refused.contains(said) && refused.contains("web.yml") && !refused.contains("geheim"), "{refused}");
        let check = skep(&["check", "--docker.host=unix:///nonexistent/docker.sock", &flag]).output().unwrap();
        assert_eq!(check.status.code(), Some(1));
        assert!(
            String::from_utf8(check.stdout)
                .unwrap()
                .lines()
                .any(|line| line.starts_with("web ") && line.contains("FAILED") && line.contains(said))
        );
    }
    assert!(refused(&["--web.config.file=/nonexistent.yml"]).contains("/nonexistent.yml: No such file"));
    assert!(refused(&["--web.listen-address=vsock://:9100"]).contains("virtual machine"));
    assert!(refused(&["--web.systemd-socket"]).contains("no socket was handed over"));
    ca.put(folder.path(), "server");
    let check = skep(&["check", "--docker.host=unix:///nonexistent/docker.sock", &file(folder.path(), TLS)]).output().unwrap();
    assert!(String::from_utf8(check.stdout).unwrap().contains("web.yml: TLS with a certificate for"));
}

#[test]
fn requests_are_limited() {
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::start(&[&file(folder.path(), "rate_limit:\n  interval: 1h\n  burst: 2\n")]);
    let statuses: Vec<u16> = (0..4).map(|_| agent.get("/healthz", "").status).collect();
    assert_eq!(statuses, [200, 200, 429, 429]);
}

#[test]
fn who_holds_connections_open_shuts_nobody_out() {
    let agent = Agent::start(&[]);
    let mut kept_open = agent.connect();
    write!(kept_open, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut head = [0; 15];
    kept_open.read_exact(&mut head).unwrap();
    // Half a head, and nothing at all.
    let silent: Vec<TcpStream> = (0..600)
        .map(|number| {
            let mut stream = agent.connect();
            if number % 2 == 0 {
                stream.write_all(b"GET /metrics HTTP/1.1\r\nHo").unwrap();
            }
            stream
        })
        .collect();
    for _ in 0..5 {
        assert_eq!(agent.get("/metrics", "").status, 200);
    }
    let counted = agent.get("/metrics/skep", "").text();
    let evicted = counted.lines().find(|line| line.contains("reason=\"evicted\"")).unwrap();
    assert!(evicted.rsplit(' ').next().unwrap().parse::<u64>().unwrap() >= 80, "{evicted}");
    write!(kept_open, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut rest = vec![0; 4096];
    assert!(kept_open.read(&mut rest).unwrap() > 0, "one that has asked stays longer than one that has not");
    drop(silent);
}

#[test]
fn slow_handshakes_shut_nobody_out() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Ca::new();
    ca.put(folder.path(), "server");
    let agent = Agent::start(&[&file(folder.path(), TLS)]);
    let silent: Vec<TcpStream> = (0..150)
        .map(|number| {
            let mut stream = agent.connect();
            if number % 2 == 0 {
                stream.write_all(&[0x16, 3, 1]).unwrap();
            }
            stream
        })
        .collect();
    // Those that were not accepted yet push nobody out: so it is asked until there are too many.
    let limit = Instant::now() + Duration::from_secs(60);
    loop {
        let counted = agent.get_tls(&ca.client(None), "/metrics/skep", "").unwrap();
        assert_eq!(counted.status, 200);
        if counted.text().lines().any(|line| line.contains("reason=\"evicted\"") && !line.ends_with(" 0")) {
            break;
        }
        assert!(Instant::now() < limit, "nobody was shut out");
    }
    assert_eq!(agent.get_tls(&ca.client(None), "/metrics", "").unwrap().status, 200);
    drop(silent);
}

#[test]
fn codings_are_what_the_client_asks_for() {
    let agent = Agent::start(&[]);
    let plain = agent.get("/metrics/node", "");
    assert!(!plain.head.contains("content-encoding") && plain.head.contains("vary: "), "{}", plain.head);
    let gzip = agent.get("/metrics/node", "Accept-Encoding: gzip\r\n");
    assert!(gzip.head.contains("content-encoding: gzip") && gzip.body.starts_with(&[0x1f, 0x8b]));
    let zstd = agent.get("/metrics/node", "Accept-Encoding: gzip;q=0.5, zstd\r\n");
    assert!(zstd.head.contains("content-encoding: zstd") && zstd.body.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]));
    assert_eq!(agent.get("/metrics/node", "Accept-Encoding: identity;q=0, br\r\n").status, 406);
}

#[test]
fn the_telemetry_path_goes_where_it_is_told() {
    let agent = Agent::start(&["--web.telemetry-path=/own/metrics/"]);
    assert_eq!((agent.get("/own/metrics", "").status, agent.get("/own/metrics/node", "").status), (200, 200));
    assert_eq!((agent.get("/metrics", "").status, agent.get("/debug/pprof/", "").status), (404, 404));
    let page = agent.get("/", "").text();
    assert!(page.contains("<a href=\"/own/metrics\">") && page.contains(concat!("version ", env!("CARGO_PKG_VERSION"))), "{page}");
    let agent = Agent::start(&["--web.telemetry-path=/", "--web.disable-exporter-metrics", "--web.max-requests=0"]);
    let answer = agent.get("/", "");
    assert!(answer.text().contains("node_load1{") && !answer.text().contains("process_cpu"));
    assert!(agent.get("/node", "").text().contains("node_load1{"));
    assert_eq!((agent.get("/debug/pprof/", "").status, agent.get("/healthz", "").status), (404, 200));
}

#[test]
fn scrapes_beyond_the_limit_are_refused_and_the_page_is_not() {
    let agent = Agent::start(&["--web.max-requests=1"]);
    until("the limit", || {
        let statuses = |path: &'static str| -> Vec<u16> {
            std::thread::scope(|scope| {
                let asked: Vec<_> = (0..16).map(|_| scope.spawn(|| agent.get(path, "Accept-Encoding: gzip\r\n").status)).collect();
                asked.into_iter().map(|one| one.join().unwrap()).collect()
            })
        };
        assert_eq!(statuses("/"), [200; 16]);
        let scrapes = statuses("/metrics");
        assert!(scrapes.iter().all(|status| matches!(status, 200 | 503)) && scrapes.contains(&200));
        scrapes.contains(&503)
    });
    let counted = agent.get("/metrics/skep", "").text();
    assert!(!counted.lines().find(|line| line.contains("reason=\"max_requests\"")).unwrap().ends_with(" 0"));
}

#[test]
fn a_socket_that_was_handed_over_is_served() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut shell = Command::new("/bin/sh");
    shell
        .args([
            "-c",
            "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" --web.systemd-socket \"$@\"",
            env!("CARGO_BIN_EXE_skep"),
        ])
        .env_clear()
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)));
    let agent = Agent::start_by(shell);
    assert_eq!(agent.address, address);
    assert_eq!(agent.get("/healthz", "").status, 200);
}
