//! `capacity`: what is needed for how many, by what was measured.

use std::fmt::Write;

use clap::Args;
use floodgate_loadtest::capacity::{Costs, Crowd, Fleet, gateways_for};

use super::{Failure, print};

#[derive(Debug, Args)]
pub struct CapacityOptions {
    /// Buyers in the first second; several, separated by commas
    #[arg(long, value_delimiter = ',', default_values_t = [10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000])]
    buyers: Vec<u64>,
    /// Units for sale; several, separated by commas
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 100_000])]
    stock: Vec<u64>,
    /// Over how long they come, in milliseconds
    #[arg(long, default_value_t = 1_000)]
    over_ms: u64,
    /// Cores of a gateway that are its own
    #[arg(long, default_value_t = 2)]
    cores: u64,
    /// How late 99 of 100 answers may be, in milliseconds
    #[arg(long, default_value_t = 1_000.0)]
    p99_ms: f64,
    /// Gateway CPU of an answer without the ledger, in µs
    #[arg(long, default_value_t = 10.2)]
    answer_us: f64,
    /// Gateway CPU of a reservation
    #[arg(long, default_value_t = 23.7)]
    reserve_us: f64,
    /// Ledger CPU of a reservation
    #[arg(long, default_value_t = 14.3)]
    ledger_us: f64,
    /// Orders written in a second
    #[arg(long, default_value_t = 25_500.0)]
    orders: f64,
}

pub fn run(options: &CapacityOptions) -> Result<(), Failure> {
    let costs = Costs {
        answer_us: options.answer_us,
        reserve_us: options.reserve_us,
        ledger_us: options.ledger_us,
        orders_per_second: options.orders,
    };
    let fleet = Fleet { gateways: 1, cores: options.cores, budget_ms: 250, retry_after_ms: 1_000 };
    let mut out = String::new();
    let heads = [
        "buyers",
        "units",
        "gateways",
        "sold out after",
        "turned away",
        "p50",
        "p99",
        "orders written",
    ];
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(out, "| {} |\n|{}", heads.join(" | "), "---|".repeat(heads.len()));
    for buyers in &options.buyers {
        for stock in &options.stock {
            let crowd = Crowd { buyers: *buyers, over_ms: options.over_ms, stock: *stock };
            let Some((gateways, course)) = gateways_for(&costs, &crowd, &fleet, options.p99_ms)
            else {
                let _ = writeln!(
                    out,
                    "| {buyers} | {stock} | more than this program tries | | | | | |"
                );
                continue;
            };
            let seconds = |ms: u64| format!("{:.2} s", ms as f64 / 1e3);
            let sold = course.sold_out_ms.map_or("not sold out".to_owned(), seconds);
            let _ = writeln!(
                out,
                "| {buyers} | {stock} | {gateways} | {sold} | {} | {:.0} ms | {:.0} ms | {} |",
                course.shed,
                course.p50_ms,
                course.p99_ms,
                seconds(course.digested_ms)
            );
        }
    }
    print(&out)
}
