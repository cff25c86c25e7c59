//! What a model Redis keeps, and the commands that the product knows.

use std::collections::BTreeMap;
use std::ops::Bound;

use redis::Value;

type Bytes = Vec<u8>;

/// The keys of a server.
#[derive(Clone, Debug, Default)]
pub struct Keyspace(BTreeMap<Bytes, Kept>);

#[derive(Clone, Debug)]
enum Kept {
    Hash(BTreeMap<Bytes, Bytes>),
    Sorted(BTreeMap<Bytes, f64>),
    Stream { last: (u64, u64), entries: BTreeMap<(u64, u64), Vec<Bytes>> },
}

/// An answer, or an error in Redis's words.
pub type Answer = Result<Value, String>;

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or("?")
}

fn bulk(text: impl ToString) -> Value {
    Value::BulkString(text.to_string().into_bytes())
}

fn id(bytes: &[u8]) -> Result<(u64, u64), String> {
    let wrong = || format!("ERR no stream id: {}", text(bytes));
    let (epoch, seq) = text(bytes).split_once('-').ok_or_else(wrong)?;
    Ok((epoch.parse().map_err(|_| wrong())?, seq.parse().map_err(|_| wrong())?))
}

impl Keyspace {
    /// Whether a command may write.
    pub fn writes(command: &str) -> bool {
        matches!(
            command,
            "HSET" | "HDEL" | "HINCRBY" | "ZADD" | "ZREM" | "XADD" | "XDEL" | "XTRIM" | "DEL"
        )
    }

    /// Runs one command. `clock` is the server's, in microseconds.
    pub fn run(&mut self, clock: u64, words: &[Bytes]) -> Answer {
        let command = text(&words[0]).to_ascii_uppercase();
        if command == "TIME" {
            return Ok(Value::Array(vec![bulk(clock / 1_000_000), bulk(clock % 1_000_000)]));
        }
        let (key, rest) = words[1..].split_first().ok_or("ERR wrong number of arguments")?;
        match command.as_str() {
            "DEL" => Ok(Value::Int(i64::from(self.0.remove(key).is_some()))),
            "HGET" | "HMGET" | "HGETALL" | "HSET" | "HDEL" | "HLEN" | "HINCRBY" | "HSCAN" => {
                self.hash(&command, key, rest)
            }
            "ZADD" | "ZREM" | "ZRANGEBYSCORE" => self.sorted(&command, key, rest),
            "XADD" | "XRANGE" | "XDEL" | "XTRIM" => self.stream(&command, key, rest),
            other => Err(format!("ERR unknown command {other}")),
        }
    }

    fn hash(&mut self, command: &str, key: &Bytes, rest: &[Bytes]) -> Answer {
        let kept = self.0.entry(key.clone()).or_insert_with(|| Kept::Hash(BTreeMap::new()));
        let Kept::Hash(hash) = kept else { return Err("WRONGTYPE".to_owned()) };
        let get = |hash: &BTreeMap<Bytes, Bytes>, field: &Bytes| {
            hash.get(field).cloned().map_or(Value::Nil, Value::BulkString)
        };
        let pairs = |hash: &BTreeMap<Bytes, Bytes>| {
            let flat = hash.iter().flat_map(|(field, value)| [field.clone(), value.clone()]);
            Value::Array(flat.map(Value::BulkString).collect())
        };
        let answer = match command {
            "HGET" => get(hash, &rest[0]),
            "HMGET" => Value::Array(rest.iter().map(|field| get(hash, field)).collect()),
            "HGETALL" => pairs(hash),
            "HSCAN" => Value::Array(vec![bulk(0), pairs(hash)]),
            "HLEN" => Value::Int(hash.len() as i64),
            "HSET" => {
                for pair in rest.chunks_exact(2) {
                    hash.insert(pair[0].clone(), pair[1].clone());
                }
                Value::Int(1)
            }
            "HDEL" => {
                for field in rest {
                    hash.remove(field);
                }
                Value::Int(1)
            }
            "HINCRBY" => {
                let known = hash.get(&rest[0]).and_then(|known| text(known).parse().ok());
                let sum = known.unwrap_or(0_i64) + text(&rest[1]).parse().unwrap_or(0);
                hash.insert(rest[0].clone(), sum.to_string().into_bytes());
                Value::Int(sum)
            }
            other => return Err(format!("ERR {other}")),
        };
        if hash.is_empty() {
            self.0.remove(key);
        }
        Ok(answer)
    }

    fn sorted(&mut self, command: &str, key: &Bytes, rest: &[Bytes]) -> Answer {
        let kept = self.0.entry(key.clone()).or_insert_with(|| Kept::Sorted(BTreeMap::new()));
        let Kept::Sorted(members) = kept else { return Err("WRONGTYPE".to_owned()) };
        let answer = match command {
            "ZADD" => {
                for pair in rest.chunks_exact(2) {
                    members
                        .insert(pair[1].clone(), text(&pair[0]).parse().map_err(|_| "ERR float")?);
                }
                Value::Int(1)
            }
            "ZREM" => {
                for member in rest {
                    members.remove(member);
                }
                Value::Int(1)
            }
            _ => by_score(members, rest)?,
        };
        if members.is_empty() {
            self.0.remove(key);
        }
        Ok(answer)
    }

    fn stream(&mut self, command: &str, key: &Bytes, rest: &[Bytes]) -> Answer {
        let empty = || Kept::Stream { last: (0, 0), entries: BTreeMap::new() };
        let kept = self.0.entry(key.clone()).or_insert_with(empty);
        let Kept::Stream { last, entries } = kept else { return Err("WRONGTYPE".to_owned()) };
        match command {
            "XADD" => {
                let new = id(&rest[0])?;
                if new <= *last {
                    return Err(
                        "ERR The ID specified in XADD is equal or smaller than the target \
                                stream top item"
                            .to_owned(),
                    );
                }
                *last = new;
                entries.insert(new, rest[1..].to_vec());
                Ok(Value::BulkString(rest[0].clone()))
            }
            "XDEL" => {
                for known in rest {
                    entries.remove(&id(known)?);
                }
                Ok(Value::Int(1))
            }
            "XTRIM" => {
                let first = id(rest.last().ok_or("ERR syntax")?)?;
                entries.retain(|at, _| *at >= first);
                Ok(Value::Int(0))
            }
            _ => {
                let after = text(&rest[0]).strip_prefix('(').ok_or("ERR only after")?;
                let from = Bound::Excluded(id(after.as_bytes())?);
                let count = rest.get(3).and_then(|count| text(count).parse().ok());
                let entry = |((epoch, seq), fields): (&(u64, u64), &Vec<Bytes>)| {
                    let fields = fields.iter().cloned().map(Value::BulkString).collect();
                    Value::Array(vec![bulk(format!("{epoch}-{seq}")), Value::Array(fields)])
                };
                let page = entries.range((from, Bound::Unbounded)).map(entry);
                Ok(Value::Array(page.take(count.unwrap_or(usize::MAX)).collect()))
            }
        }
    }
}

/// ZRANGEBYSCORE min max [WITHSCORES] [LIMIT offset count].
fn by_score(members: &BTreeMap<Bytes, f64>, rest: &[Bytes]) -> Answer {
    let bound = |word: &[u8]| -> Result<(f64, bool), String> {
        let word = text(word);
        let (number, open) = word.strip_prefix('(').map_or((word, false), |rest| (rest, true));
        let number = match number {
            "-inf" => f64::NEG_INFINITY,
            "+inf" => f64::INFINITY,
            number => number.parse().map_err(|_| format!("ERR min or max: {number}"))?,
        };
        Ok((number, open))
    };
    let (min, max) = (bound(&rest[0])?, bound(&rest[1])?);
    let with_scores = rest.iter().any(|word| word == b"WITHSCORES");
    let limit = rest.iter().position(|word| word == b"LIMIT");
    let number = |at: usize| rest.get(at).and_then(|number| text(number).parse().ok());
    let offset = limit.and_then(|at| number(at + 1)).unwrap_or(0);
    let limit = limit.and_then(|at| number(at + 2)).unwrap_or(usize::MAX);
    let above = |score: f64| if min.1 { score > min.0 } else { score >= min.0 };
    let below = |score: f64| if max.1 { score < max.0 } else { score <= max.0 };
    let mut found: Vec<_> =
        members.iter().filter(|(_, score)| above(**score) && below(**score)).collect();
    found.sort_by(|a, b| a.1.total_cmp(b.1).then(a.0.cmp(b.0)));
    let mut answer = Vec::new();
    for (member, score) in found.into_iter().skip(offset).take(limit) {
        answer.push(Value::BulkString(member.clone()));
        if with_scores {
            answer.push(bulk(score));
        }
    }
    Ok(Value::Array(answer))
}
