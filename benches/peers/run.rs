//! The rounds: each contender in turn, under each scenario, and the tables.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::alone;
use crate::bars::Bars;
use crate::client::{Client, Target};
use crate::contender::{Contender, Kind, Origin, Stage};
use crate::load::{self, Closed};
use crate::scenario;
use crate::tls::Identity;
use crate::tool::Tool;
use crate::{Failure, HOST, Options};

pub(crate) const WARM: Duration = Duration::from_secs(1);
const IDLE: usize = 5_000;

#[derive(Clone, Default)]
pub(crate) struct Measured {
    pub(crate) per_second: f64,
    user: f64,
    system: f64,
    p50: f64,
    pub(crate) p99: f64,
    resident: f64,
}

impl Measured {
    pub(crate) fn cpu(&self) -> f64 {
        self.user + self.system
    }
}

pub(crate) async fn run(options: &Options) -> Result<(), Failure> {
    let pinned = std::process::Command::new("taskset")
        .args(["-cp", &options.load_cpu.to_string(), &std::process::id().to_string()])
        .output();
    pinned.map_err(|error| format!("taskset: {error}"))?;
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let identity = Identity::make(folder.path())?;
    let origin = Origin::start(options.load_cpu)?;
    let stage = Stage { options: options.clone(), folder: folder.path().to_owned(), identity, origin };
    let two = stage.has_two_lanes()?;
    let wanted = |list: &[String], name: &str| list.is_empty() || list.iter().any(|one| one == name);
    let mut bars = Bars::default();
    let work = async {
        for scenario in scenario::ALL.into_iter().filter(|one| wanted(&options.only, one)) {
            let kinds = Kind::ALL.into_iter().filter(|kind| {
                wanted(&options.contenders, kind.name())
                    && (*kind != Kind::WeirGeneral || two)
                    && scenario::has(scenario, *kind)
            });
            let kinds: Vec<Kind> = kinds.collect();
            match scenario {
                "idle" | "idle-h2" => idle(&stage, scenario, &kinds, &mut bars).await?,
                "access-log" => alone::access_log(&stage, &mut bars).await?,
                "routes" => alone::routes(&stage, &mut bars).await?,
                "reloads" => alone::reloads(&stage, &mut bars).await?,
                _ => rounds(&stage, scenario, &kinds, &mut bars).await?,
            }
        }
        bars.print();
        Ok(())
    };
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => Err("interrupted".to_owned()),
    }
}

pub(crate) fn target(stage: &Stage, scenario: &str, one: &Contender) -> Result<Target, Failure> {
    let fresh = matches!(scenario, "new-conn" | "handshake");
    let alpn: &[u8] = if scenario::http2(scenario) { b"h2" } else { b"http/1.1" };
    let tls = if scenario::tls(scenario) { Some(stage.identity.connector(alpn)?) } else { None };
    let close = if fresh { "connection: close\r\n" } else { "" };
    let path = scenario::path(scenario);
    let mut request = if path == "/sink" {
        format!("PUT /sink HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 1048576\r\n\r\n")
    } else {
        format!("GET {path} HTTP/1.1\r\nhost: {HOST}\r\n{close}\r\n")
    }
    .into_bytes();
    if path == "/sink" {
        request.resize(request.len() + (1 << 20), b'x');
    }
    let buffer = if path.starts_with("/1m") { 64 * 1024 } else { 2048 };
    Ok(Target { address: if tls.is_some() { one.tls } else { one.plain }, tls, fresh, request, buffer })
}

/// The closed loop, measured in its middle.
pub(crate) async fn closed(stage: &Stage, scenario: &str, one: &Contender, seconds: u64) -> Result<Measured, Failure> {
    enum Load {
        Tool(Tool),
        Own(Closed),
    }
    let load = match scenario::tool(stage, scenario, one, seconds + 2)? {
        Some(tool) => Load::Tool(tool),
        None => Load::Own(Closed::start(Client::http1(&Rc::new(target(stage, scenario, one)?), 16))),
    };
    tokio::time::sleep(WARM).await;
    let (counts, usage, at) = (stage.origin.counts().await?, one.usage(), Instant::now());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (came, used, lasted) = (stage.origin.counts().await?.since(&counts), one.usage(), at.elapsed());
    match load {
        Load::Tool(tool) => tool.finish().await?,
        Load::Own(own) => own.finish().await?,
    }
    let requests = came.requests() as f64;
    if one.kind != Kind::Relay {
        let share = came.v2[0] as f64 / requests;
        if !(0.08..=0.12).contains(&share) {
            return Err(format!("v2 got {:.1} % instead of 10 %", share * 100.0));
        }
        if came.v1[2] + came.v2[2] != came.requests() {
            return Err("requests without X-Forwarded-For".to_owned());
        }
        let connections = came.v1[1] + came.v2[1];
        if connections as f64 > requests / 20.0 {
            println!("  odd: {scenario} {}: {connections} upstream connections for {requests} requests", one.kind);
        }
    }
    Ok(Measured {
        per_second: requests / lasted.as_secs_f64(),
        user: (used.user - usage.user) * 1e6 / requests,
        system: (used.system - usage.system) * 1e6 / requests,
        ..Measured::default()
    })
}

async fn rounds(stage: &Stage, scenario: &str, kinds: &[Kind], bars: &mut Bars) -> Result<(), Failure> {
    let blame = |kind: Kind| move |failure: Failure| format!("{scenario}: {kind}: {failure}");
    let shape = scenario::shape(scenario);
    // Half of what the slowest can; of what h2load can less, because our own client takes more of the processor.
    let share = if scenario::http2(scenario) { 6.0 } else { 2.0 };
    let mut rate = f64::INFINITY;
    for kind in kinds {
        let one = stage.start(*kind, &shape).await?;
        rate = rate.min(closed(stage, scenario, &one, 1).await.map_err(blame(*kind))?.per_second / share);
    }
    let mut all: Vec<Vec<Measured>> = vec![Vec::new(); kinds.len()];
    for _ in 0..stage.options.rounds {
        for (kind, measured) in kinds.iter().zip(&mut all) {
            let one = stage.start(*kind, &shape).await?;
            let mut now = closed(stage, scenario, &one, stage.options.seconds).await.map_err(blame(*kind))?;
            (now.p50, now.p99) = latency(stage, scenario, &one, rate).await.map_err(blame(*kind))?;
            now.resident = one.usage().resident as f64 / f64::from(1 << 20);
            measured.push(now);
        }
    }
    print(scenario, rate, kinds, &all);
    bars.note(scenario, kinds, &all);
    Ok(())
}

/// The median and the 99th percentile at a fixed rate; not a number where no client of ours asks for it.
async fn latency(stage: &Stage, scenario: &str, one: &Contender, rate: f64) -> Result<(f64, f64), Failure> {
    if !scenario::has_latency(scenario) {
        return Ok((f64::NAN, f64::NAN));
    }
    let target = Rc::new(target(stage, scenario, one)?);
    let clients =
        if scenario::http2(scenario) { Client::http2(&target, 8, 8).await? } else { Client::http1(&target, 64) };
    let lasting = Duration::from_secs(stage.options.seconds);
    let latencies = load::open(clients, rate, WARM, lasting).await?;
    let quantile = |of| latencies.quantile(of).unwrap_or(f64::NAN);
    Ok((quantile(0.5), quantile(0.99)))
}

fn print(scenario: &str, rate: f64, kinds: &[Kind], all: &[Vec<Measured>]) {
    println!("\n{scenario}   (p50 and p99 at {rate:.0} requests a second)");
    println!("  contender       req/s   CPU µs    user  system   to weir   p50 µs    p99 µs   RSS MiB");
    let weir = kinds.iter().position(|kind| *kind == Kind::Weir).and_then(|at| all.get(at));
    for (kind, own) in kinds.iter().zip(all) {
        let of = |figure: fn(&Measured) -> f64| median(own.iter().map(figure).collect());
        let ratios = own.iter().zip(weir.into_iter().flatten());
        let ratio = median(ratios.map(|(own, weir)| own.cpu() / weir.cpu()).collect());
        println!(
            "  {kind:12} {:8.0} {:8.1} {:7.1} {:7.1} {ratio:9.3} {:8.0} {:9.0} {:9.1}",
            of(|it| it.per_second),
            of(Measured::cpu),
            of(|it| it.user),
            of(|it| it.system),
            of(|it| it.p50),
            of(|it| it.p99),
            of(|it| it.resident),
        );
    }
}

/// The memory of connections that have made one request each, in clear and under TLS.
async fn idle(stage: &Stage, scenario: &str, kinds: &[Kind], bars: &mut Bars) -> Result<(), Failure> {
    println!("\n{scenario}   ({IDLE} connections, KiB each)\n  contender      plain      TLS");
    let both = if scenario == "idle" { ["idle", "idle-tls"] } else { ["idle-h2c", "idle-h2"] };
    for kind in kinds {
        let mut each = Vec::new();
        for scenario in both.into_iter().filter(|scenario| scenario::has(scenario, *kind)) {
            let one = stage.start(*kind, &scenario::shape(scenario)).await?;
            let target = Rc::new(target(stage, scenario, &one)?);
            let before = one.usage().resident;
            let blame = |failure| format!("{scenario}: {kind}: {failure}");
            let mut clients = if scenario::http2(scenario) {
                Client::http2(&target, IDLE, 1).await.map_err(blame)?
            } else {
                Client::http1(&target, IDLE)
            };
            for client in &mut clients {
                client.exchange().await.map_err(blame)?;
            }
            tokio::time::sleep(WARM).await;
            let kib = one.usage().resident.saturating_sub(before) as f64 / 1024.0 / IDLE as f64;
            each.push(kib);
            if *kind == Kind::Weir {
                bars.memory(scenario, kib);
            }
        }
        let shown: Vec<String> = each.iter().map(|kib| format!("{kib:8.1}")).collect();
        println!("  {kind:12} {}", shown.join(" "));
    }
    Ok(())
}

pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
