//! The binary: a command line becomes a configuration, and the configuration the agent.

use std::ffi::OsString;
use std::process::ExitCode;

use skep::config::cli::{self, Action};
use skep::config::layers::{self, Process};
use skep::config::{Config, Fault};
use skep::telemetry::log;
use skep::{app, check};

/// EX_USAGE and EX_CONFIG of sysexits.h.
const USAGE: u8 = 64;
const CONFIG: u8 = 78;

fn main() -> ExitCode {
    skep::host::sys::one_heap();
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let line = match cli::parse(arguments) {
        Ok(line) => line,
        Err(why) => return fail(USAGE, &why.to_string()),
    };
    match line.action {
        Action::Help => return print(&line.help.unwrap_or_default()),
        Action::Version => return print(&format!("skep {}\n", env!("CARGO_PKG_VERSION"))),
        _ => {}
    }
    let assemble = move || -> Result<Config, Fault> { Config::of(layers::merge(&line.values, &Process)?) };
    let config = match assemble() {
        Ok(found) => found,
        Err(why) => return fail(CONFIG, &why.to_string()),
    };
    if line.action == Action::Config {
        // What the collectors refuse is refused here too.
        if let Err(faults) = skep::collect::build(&config.settings) {
            return fail(CONFIG, &faults.join("; "));
        }
        return print(&check::effective(&config));
    }
    if line.action == Action::Healthcheck {
        return match skep::http::health::ask(&config.web.listen) {
            Ok(()) => print("ok\n"),
            Err(why) => fail(1, &why),
        };
    }
    // Before anything is opened, for what a variable says of descriptors is then true or comes to nothing.
    let inherited = if config.web.systemd_socket { skep::host::sys::inherited_sockets() } else { Vec::new() };
    log::install(config.log);
    let runtime = match app::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(CONFIG, &format!("the system gives no threads: {error}")),
    };
    if line.action == Action::Check {
        return match runtime.block_on(check::run(&config)) {
            Ok(report) => {
                let code = if report.works() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
                print(&report.render(config.json));
                code
            }
            Err(why) => fail(CONFIG, &why.to_string()),
        };
    }
    let ended = runtime.block_on(app::run(config, inherited, &assemble));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => fail(CONFIG, &why.to_string()),
    }
}

fn print(text: &str) -> ExitCode {
    use std::io::Write as _;
    // A reader that has gone (`skep --help | head`) is no fault.
    drop(std::io::stdout().lock().write_all(text.as_bytes()));
    ExitCode::SUCCESS
}

fn fail(code: u8, why: &str) -> ExitCode {
    use std::io::Write as _;
    drop(writeln!(std::io::stderr().lock(), "skep: {why}"));
    ExitCode::from(code)
}
