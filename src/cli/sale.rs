//! `floodgate sale …`: through the ops API of a running gateway.

use std::io::Read;
use std::path::Path;

use hyper::Method;
use serde_json::{Value, json};

use super::arguments::{OpsArguments, SaleCommand};
use super::client::{Ops, Question};
use super::{Exit, Failure, say, small_runtime, table};
use crate::sale::{IdempotencyKey, ItemId, SaleDefinition, SaleId};

const SALES: &str = "/admin/v1/sales";

pub(super) fn run(
    arguments: &OpsArguments,
    command: SaleCommand,
    as_json: bool,
) -> Result<Exit, Failure> {
    if let SaleCommand::Archive { id } = &command {
        return archive(arguments, id, as_json);
    }
    let question = question(command)?;
    let ops = Ops::of(arguments)?;
    let answer = small_runtime()?.block_on(ops.ask(&question))?;
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
    let question = about_sale(Method::POST, id, "/archive")?;
    let mut archived = 0;
    loop {
        let answer = runtime.block_on(ops.ask(&question))?;
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

fn question(command: SaleCommand) -> Result<Question, Failure> {
    let sale = about_sale;
    Ok(match command {
        SaleCommand::Create { file } => {
            Question::new(Method::POST, SALES, "list of sales").with_body(read_sale(&file)?)
        }
        SaleCommand::List => Question::new(Method::GET, SALES, "list of sales"),
        SaleCommand::Show { id } => sale(Method::GET, &id, "")?,
        SaleCommand::Open { id } => sale(Method::POST, &id, "/open")?,
        SaleCommand::Pause { id } => sale(Method::POST, &id, "/pause")?,
        SaleCommand::Resume { id } => sale(Method::POST, &id, "/resume")?,
        SaleCommand::Close { id } => sale(Method::POST, &id, "/close")?,
        SaleCommand::Archive { id } => sale(Method::POST, &id, "/archive")?,
        SaleCommand::Restock { id, item, delta, reason, key } => {
            let usage = |error: String| Failure::new(Exit::Usage, error);
            let item = ItemId::parse(&item).map_err(|error| usage(format!("item {error}")))?;
            let key = key.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
            IdempotencyKey::parse(&key).map_err(|error| usage(format!("--key {error}")))?;
            let path = format!("{SALES}/{}/items/{item}/restock", sale_id(&id)?);
            Question::new(Method::POST, path, format!("sale {id} with an item {item}"))
                .with_body(json!({ "delta": delta, "reason": reason }))
                .with_key(key)
        }
    })
}

fn about_sale(method: Method, id: &str, rest: &str) -> Result<Question, Failure> {
    let id = sale_id(id)?;
    Ok(Question::new(method, format!("{SALES}/{id}{rest}"), format!("sale {id}")))
}

fn sale_id(text: &str) -> Result<SaleId, Failure> {
    SaleId::parse(text).map_err(|error| Failure::new(Exit::Usage, format!("sale id {error}")))
}

/// Reads a sale and says what is wrong with it, all at once, before anybody is asked.
fn read_sale(file: &Path) -> Result<Value, Failure> {
    let piped = file == Path::new("-");
    let name = if piped { "standard input".to_owned() } else { file.display().to_string() };
    let failure = |error: String| Failure::new(Exit::Failure, format!("{name}: {error}"));
    let mut text = String::new();
    if piped {
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
