//! `floodgate sale …`: through the ops API of a running gateway.

use std::io::Read;
use std::path::Path;

use hyper::Method;
use serde_json::{Value, json};

use super::arguments::{OpsArguments, SaleCommand};
use super::client::Ops;
use super::{Exit, Failure, say, small_runtime, table};
use crate::sale::{ItemId, SaleDefinition, SaleId};

const SALES: &str = "/admin/v1/sales";

pub(super) fn run(
    arguments: &OpsArguments,
    command: SaleCommand,
    as_json: bool,
) -> Result<Exit, Failure> {
    if let SaleCommand::Archive { id } = &command {
        return archive(arguments, id, as_json);
    }
    let (method, path, body) = request(command)?;
    let ops = Ops::of(arguments)?;
    let answer = small_runtime()?.block_on(ops.ask(method, &path, body.as_ref()))?;
    if as_json {
        say!("{answer}");
        return Ok(Exit::Ok);
    }
    match answer["sales"].as_array() {
        Some(sales) => show_list(sales),
        None => show_sale(&answer),
    }
    Ok(Exit::Ok)
}

/// Asks again until nothing is left.
fn archive(arguments: &OpsArguments, id: &str, as_json: bool) -> Result<Exit, Failure> {
    let (ops, runtime) = (Ops::of(arguments)?, small_runtime()?);
    let path = format!("{SALES}/{}/archive", sale_id(id)?);
    let mut archived = 0;
    loop {
        let answer = runtime.block_on(ops.ask(Method::POST, &path, None))?;
        archived += answer["archived"].as_u64().unwrap_or(0);
        if answer["more"] != true {
            break;
        }
    }
    if as_json {
        say!("{}", json!({ "archived": archived }));
    } else {
        say!("{archived} orders archived; those that wait for a payment stay");
    }
    Ok(Exit::Ok)
}

fn request(command: SaleCommand) -> Result<(Method, String, Option<Value>), Failure> {
    let path = |id: &str, rest: &str| Ok::<_, Failure>(format!("{SALES}/{}{rest}", sale_id(id)?));
    Ok(match command {
        SaleCommand::Create { file } => (Method::POST, SALES.to_owned(), Some(read_sale(&file)?)),
        SaleCommand::List => (Method::GET, SALES.to_owned(), None),
        SaleCommand::Show { id } => (Method::GET, path(&id, "")?, None),
        SaleCommand::Open { id } => (Method::POST, path(&id, "/open")?, None),
        SaleCommand::Pause { id } => (Method::POST, path(&id, "/pause")?, None),
        SaleCommand::Resume { id } => (Method::POST, path(&id, "/resume")?, None),
        SaleCommand::Close { id } => (Method::POST, path(&id, "/close")?, None),
        SaleCommand::Archive { id } => (Method::POST, path(&id, "/archive")?, None),
        SaleCommand::Restock { id, item, delta, reason } => {
            let item = ItemId::parse(&item)
                .map_err(|error| Failure::new(Exit::Usage, format!("item {error}")))?;
            let path = path(&id, &format!("/items/{item}/restock"))?;
            (Method::POST, path, Some(json!({ "delta": delta, "reason": reason })))
        }
    })
}

fn sale_id(text: &str) -> Result<SaleId, Failure> {
    SaleId::parse(text).map_err(|error| Failure::new(Exit::Usage, format!("sale id {error}")))
}

/// Reads a sale and says what is wrong with it, all at once, before anybody is asked.
fn read_sale(file: &Path) -> Result<Value, Failure> {
    let failure =
        |error: String| Failure::new(Exit::Failure, format!("{}: {error}", file.display()));
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().read_to_string(&mut text).map_err(|error| failure(error.to_string()))?;
    } else {
        text = std::fs::read_to_string(file).map_err(|error| failure(error.to_string()))?;
    }
    let value: Value = serde_json::from_str(&text).map_err(|error| failure(error.to_string()))?;
    match SaleDefinition::from_json(&value) {
        Ok(_) => Ok(value),
        Err(faults) => {
            let lines: Vec<String> = faults.iter().map(|fault| format!("  {fault}")).collect();
            Err(failure(format!("{} faults\n{}", faults.len(), lines.join("\n"))))
        }
    }
}

fn show_list(sales: &[Value]) {
    let rows = sales.iter().map(|sale| {
        let sum = |counter: &str| -> u64 {
            let items = sale["items"].as_array().into_iter().flatten();
            items.filter_map(|item| item[counter].as_u64()).sum()
        };
        let sold = sum("held") + sum("confirmed");
        vec![
            word(&sale["id"]),
            word(&sale["state"]),
            word(&sale["opens_at"]),
            word(&sale["closes_at"]),
            sum("stock").to_string(),
            sold.to_string(),
        ]
    });
    let headings = ["SALE", "STATE", "OPENS", "CLOSES", "STOCK", "TAKEN"];
    table::print(&headings, &[4, 5], rows.collect());
}

fn show_sale(sale: &Value) {
    say!("{} — {} ({})", word(&sale["id"]), word(&sale["title"]), word(&sale["state"]));
    say!(
        "opens {}, closes {}, hold {} s, outbox {}\n",
        word(&sale["opens_at"]),
        word(&sale["closes_at"]),
        sale["hold_seconds"],
        sale["outbox_length"],
    );
    let counters = ["stock", "available", "held", "confirmed", "cancelled_total", "expired_total"];
    let rows = sale["items"].as_array().into_iter().flatten().map(|item| {
        let name = word(&item["id"]);
        std::iter::once(name).chain(counters.map(|counter| item[counter].to_string())).collect()
    });
    let headings = ["ITEM", "STOCK", "AVAILABLE", "HELD", "CONFIRMED", "CANCELLED", "EXPIRED"];
    table::print(&headings, &[1, 2, 3, 4, 5, 6], rows.collect());
}

/// A value as people read it.
fn word(value: &Value) -> String {
    let text = value.as_str().map(str::to_owned);
    text.unwrap_or_else(|| if value.is_null() { "—".to_owned() } else { value.to_string() })
}
