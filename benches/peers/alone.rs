//! What only Weir is asked: whether many routes, an access log or many reloads cost its requests anything.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use crate::Failure;
use crate::bars::Bars;
use crate::client::Client;
use crate::configs::{self, Shape};
use crate::contender::{Contender, Kind, Stage};
use crate::load;
use crate::run::{WARM, closed, median, target};

/// So many routes are many.
const MANY: usize = 10_000;
/// Between two reloads.
const BETWEEN: Duration = Duration::from_millis(10);
/// Requests a second under reloads: a rate that one CPU carries beside the reloads.
const RATE: f64 = 5_000.0;

/// One route against many: CPU per request.
pub(crate) async fn routes(stage: &Stage, bars: &mut Bars) -> Result<(), Failure> {
    let mut ratios = Vec::new();
    println!("\nroutes   (CPU us per request with one route and with {MANY} more)");
    for _ in 0..stage.options.rounds {
        let few = stage.start(Kind::Weir, &Shape::default()).await?;
        let few = closed(stage, "h1", &few, stage.options.seconds).await?.cpu();
        let many = stage.start(Kind::Weir, &Shape { routes: MANY, ..Shape::default() }).await?;
        let many = closed(stage, "h1", &many, stage.options.seconds).await?.cpu();
        println!("  {few:8.2} {many:8.2} {:8.3}", many / few);
        ratios.push(many / few);
    }
    bars.add(format!("routes: CPU per request with {MANY}, of that with 1"), median(ratios), 1.03);
    Ok(())
}

/// An access log against none: CPU per request.
pub(crate) async fn access_log(stage: &Stage, bars: &mut Bars) -> Result<(), Failure> {
    let mut ratios = Vec::new();
    println!("\naccess-log   (CPU us per request without and with a line for each in a file)");
    for _ in 0..stage.options.rounds {
        let without = stage.start(Kind::Weir, &Shape::default()).await?;
        let without = closed(stage, "h1", &without, stage.options.seconds).await?.cpu();
        let with = stage.start(Kind::Weir, &Shape { access_log: true, ..Shape::default() }).await?;
        let with = closed(stage, "h1", &with, stage.options.seconds).await?.cpu();
        println!("  {without:8.2} {with:8.2} {:8.3}", with / without);
        ratios.push(with / without);
    }
    bars.add("access-log: CPU per request, of that without".to_owned(), median(ratios), 1.15);
    Ok(())
}

/// 100 reloads a second of a file with many routes against none: p99 at a fixed rate.
pub(crate) async fn reloads(stage: &Stage, bars: &mut Bars) -> Result<(), Failure> {
    let mut ratios = Vec::new();
    println!("\nreloads   (p99 in us at {RATE} requests a second, without and with a SIGHUP every {BETWEEN:?})");
    for _ in 0..stage.options.rounds {
        let weir = stage.start(Kind::Weir, &Shape { routes: MANY, ..Shape::default() }).await?;
        let lasting = Duration::from_secs(stage.options.seconds);
        let quiet = load::open(Client::http1(&Rc::new(target(stage, "h1", &weir)?), 64), RATE, WARM, lasting).await?;
        let [one, other] = stage.prepare(&weir, MANY)?;
        let over = Cell::new(false);
        let storm = async {
            let (mut reloads, mut timer) = (0_usize, tokio::time::interval(BETWEEN));
            while !over.get() {
                timer.tick().await;
                weir.reload(if reloads % 2 == 0 { &one } else { &other })?;
                reloads += 1;
            }
            Ok::<usize, Failure>(reloads)
        };
        let clients = Client::http1(&Rc::new(target(stage, "h1", &weir)?), 64);
        let load = async {
            let done = load::open(clients, RATE, WARM, lasting).await;
            over.set(true);
            done
        };
        let (stormy, reloads) = tokio::join!(load, storm);
        let (stormy, reloads) = (stormy?, reloads?);
        let p99 = |latencies: &load::Latencies| latencies.quantile(0.99).unwrap_or(f64::NAN);
        let (before, after) = (p99(&quiet), p99(&stormy));
        println!("  {before:8.0} {after:8.0} {:8.3}   {reloads} reloads asked for", after / before);
        ratios.push(after / before);
    }
    bars.add("reloads: p99 with 100 a second, of that without".to_owned(), median(ratios), 1.2);
    Ok(())
}

impl Stage {
    /// Two files that differ in the split, for a Weir that runs.
    fn prepare(&self, weir: &Contender, routes: usize) -> Result<[PathBuf; 2], Failure> {
        let ports = weir.ports();
        let facts = ports.facts(self, weir.folder());
        let files = ["one", "other"].map(|name| weir.folder().join(name));
        for (file, split) in files.iter().zip([(90, 10), (89, 11)]) {
            std::fs::write(file, configs::weir(&facts, "", &Shape { routes, split, ..Shape::default() }))
                .map_err(|error| error.to_string())?;
        }
        Ok(files)
    }
}
