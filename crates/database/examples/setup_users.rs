//! Sets up three users on a server, twice, and prints what each run cost as a line of JSON: for `make bench-db`.
//!
//! `MASTER_PASSWORD=… USERS_PASSWORD=… setup_users HOST PORT CA_FILE MASTER`
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the benchmark")]

use aurora_restore_database::{Credentials, Endpoint, Passwords, Server, Trust, setup_users};
use aurora_restore_domain::engine::Engine;
use aurora_restore_domain::roles::{DeclaredUser, Desired, InheritedLogins, RoleName};
use secrecy::SecretString;
use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

const USAGE: &str = "usage: MASTER_PASSWORD=... USERS_PASSWORD=... setup_users HOST PORT CA_FILE MASTER";
const RUNS: usize = 2;

// One thread, as in a Lambda function.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            let mut source = error.source();
            while let Some(error) = source {
                eprintln!("because: {error}");
                source = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [host, port, ca_file, master] = arguments else { return Err(USAGE.into()) };
    let endpoint = Endpoint { host: host.clone(), port: port.parse()? };
    let master = Credentials::by_password(RoleName::try_from(master.as_str())?, secret("MASTER_PASSWORD")?);
    let keys = ["application_user", "readonly_user", "devops_user"];
    let declared = keys.into_iter().map(|key| DeclaredUser::from_secret(key, key)).collect::<Result<Vec<_>, _>>()?;
    let password = secret("USERS_PASSWORD")?;
    let passwords: Passwords = declared.iter().map(|user| (user.role.clone(), password.clone())).collect();
    let desired = Desired::new(&master.role, declared, InheritedLogins::Lock, BTreeSet::new())?;
    let trust = Trust::from_file(Path::new(ca_file))?;
    let server = Server { engine: Engine::PostgreSql, endpoint, database: "postgres".to_owned(), master, trust };
    for run in 1..=RUNS {
        let began = Instant::now();
        let report = setup_users(&server, &desired, &passwords).await?;
        let seconds = began.elapsed().as_secs_f64();
        let (databases, changes) = (report.databases.len(), report.changes.len());
        let (peak, cpu) = (or_null(peak_memory_kb()), or_null(cpu_seconds()));
        println!(
            "{{\"run\": {run}, \"seconds\": {seconds:.3}, \"databases\": {databases}, \"changes\": {changes}, \
             \"peak_memory_kb\": {peak}, \"cpu_seconds\": {cpu}}}"
        );
    }
    Ok(())
}

fn secret(name: &str) -> Result<SecretString, Box<dyn Error>> {
    std::env::var(name).map(SecretString::from).map_err(|_| format!("{name} is not set; {USAGE}").into())
}

fn or_null(figure: Option<impl ToString>) -> String {
    figure.map_or_else(|| "null".to_owned(), |figure| figure.to_string())
}

/// What this process has taken of a processor so far. As below.
fn cpu_seconds() -> Option<f64> {
    // After the name, which may hold spaces: of the user and of the kernel, in hundredths.
    let status = std::fs::read_to_string("/proc/self/stat").ok()?;
    let mut fields = status.rsplit_once(") ")?.1.split(' ').skip(11);
    let hundredths = fields.next()?.parse::<u32>().ok()? + fields.next()?.parse::<u32>().ok()?;
    Some(f64::from(hundredths) / 100.0)
}

/// The most that this process ever had in memory. Linux tells it; elsewhere nobody does without a system call.
fn peak_memory_kb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}
