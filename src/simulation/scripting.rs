//! The very scripts of `lua/`, run over a model's keys.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kinds of values are those of Lua and of Redis, not ours"
)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use mlua::{Function, Lua, MultiValue, Table, Value as LuaValue, Variadic};
use redis::Value;

use super::keyspace::{Answer, Keyspace};

/// Lua with what Redis gives its scripts.
pub struct Scripting {
    lua: Lua,
    /// What the script under way runs on, and the server's clock.
    at: Arc<Mutex<(Keyspace, u64)>>,
    loaded: HashMap<String, Function>,
}

impl Scripting {
    pub fn new() -> Self {
        let lua = Lua::new();
        let at = Arc::new(Mutex::new((Keyspace::default(), 0)));
        let keys = Arc::clone(&at);
        let call = lua.create_function(move |lua, words: Variadic<LuaValue>| {
            let words: Vec<Vec<u8>> = words.iter().map(word).collect::<mlua::Result<_>>()?;
            let mut guard = keys.lock().unwrap();
            let (keyspace, clock) = &mut *guard;
            let answer = keyspace.run(*clock, &words).map_err(mlua::Error::runtime)?;
            to_lua(lua, answer)
        });
        let redis = lua.create_table().unwrap();
        redis.set("call", call.unwrap()).unwrap();
        lua.globals().set("redis", redis).unwrap();
        let pack = lua.create_function(|lua, values: MultiValue| {
            let mut packed = Vec::new();
            for value in values {
                write(&mut packed, &value)?;
            }
            lua.create_string(packed)
        });
        let unpack = lua.create_function(|lua, packed: mlua::LuaString| {
            let bytes = packed.as_bytes();
            let value = rmpv::decode::read_value(&mut &bytes[..]).map_err(mlua::Error::external)?;
            unpacked(lua, &value)
        });
        let cmsgpack = lua.create_table().unwrap();
        cmsgpack.set("pack", pack.unwrap()).unwrap();
        cmsgpack.set("unpack", unpack.unwrap()).unwrap();
        lua.globals().set("cmsgpack", cmsgpack).unwrap();
        Self { lua, at, loaded: HashMap::new() }
    }

    /// Runs a script by its hash.
    pub fn run(
        &mut self,
        keyspace: &mut Keyspace,
        clock: u64,
        source: &str,
        keys: &[Vec<u8>],
        arguments: &[Vec<u8>],
    ) -> Answer {
        *self.at.lock().unwrap() = (std::mem::take(keyspace), clock);
        let answer = self.call(source, keys, arguments);
        *keyspace = std::mem::take(&mut self.at.lock().unwrap().0);
        // As Redis has it: what was written before an error stays.
        answer.map_err(|error| format!("ERR {error}"))
    }

    fn call(
        &mut self,
        source: &str,
        keys: &[Vec<u8>],
        arguments: &[Vec<u8>],
    ) -> mlua::Result<Value> {
        let script = match self.loaded.get(source) {
            Some(script) => script.clone(),
            None => {
                let body = source.split_once('\n').map_or("", |(_, body)| body);
                let script = self.lua.load(body).into_function()?;
                self.loaded.insert(source.to_owned(), script.clone());
                script
            }
        };
        let list = |values: &[Vec<u8>]| -> mlua::Result<Table> {
            let strings = values.iter().map(|value| self.lua.create_string(value));
            self.lua.create_sequence_from(strings.collect::<mlua::Result<Vec<_>>>()?)
        };
        self.lua.globals().set("KEYS", list(keys)?)?;
        self.lua.globals().set("ARGV", list(arguments)?)?;
        from_lua(script.call(())?)
    }
}

fn word(value: &LuaValue) -> mlua::Result<Vec<u8>> {
    Ok(match value {
        LuaValue::String(text) => text.as_bytes().to_vec(),
        LuaValue::Integer(number) => number.to_string().into_bytes(),
        LuaValue::Number(number) => format!("{number}").into_bytes(),
        other => return Err(mlua::Error::runtime(format!("no argument: {other:?}"))),
    })
}

fn to_lua(lua: &Lua, answer: Value) -> mlua::Result<LuaValue> {
    Ok(match answer {
        Value::Nil => LuaValue::Boolean(false),
        Value::Int(number) => LuaValue::Integer(number),
        Value::BulkString(text) => LuaValue::String(lua.create_string(text)?),
        Value::Array(values) => {
            let values = values.into_iter().map(|value| to_lua(lua, value));
            let values = values.collect::<mlua::Result<Vec<_>>>()?;
            LuaValue::Table(lua.create_sequence_from(values)?)
        }
        other => return Err(mlua::Error::runtime(format!("no answer: {other:?}"))),
    })
}

fn from_lua(value: LuaValue) -> mlua::Result<Value> {
    Ok(match value {
        LuaValue::Nil | LuaValue::Boolean(false) => Value::Nil,
        LuaValue::Boolean(true) => Value::Int(1),
        LuaValue::Integer(number) => Value::Int(number),
        LuaValue::Number(number) => Value::Int(number as i64),
        LuaValue::String(text) => Value::BulkString(text.as_bytes().to_vec()),
        LuaValue::Table(table) => {
            let values = table.sequence_values::<LuaValue>();
            Value::Array(values.map(|value| from_lua(value?)).collect::<mlua::Result<_>>()?)
        }
        other => return Err(mlua::Error::runtime(format!("no answer: {other:?}"))),
    })
}

/// As the `cmsgpack` of Redis packs: whole numbers as integers, the shortest form of everything.
fn write(out: &mut Vec<u8>, value: &LuaValue) -> mlua::Result<()> {
    let whole = |number: f64| number.fract() == 0.0 && number.abs() < 9e15;
    match value {
        LuaValue::Nil => rmp::encode::write_nil(out).map_err(mlua::Error::external),
        LuaValue::Boolean(flag) => {
            rmp::encode::write_bool(out, *flag).map_err(mlua::Error::external)
        }
        LuaValue::Integer(number) => {
            rmp::encode::write_sint(out, *number).map(drop).map_err(mlua::Error::external)
        }
        LuaValue::Number(number) if whole(*number) => {
            rmp::encode::write_sint(out, *number as i64).map(drop).map_err(mlua::Error::external)
        }
        LuaValue::Number(number) => {
            rmp::encode::write_f64(out, *number).map_err(mlua::Error::external)
        }
        LuaValue::String(text) => {
            let bytes = text.as_bytes();
            let head = rmp::encode::write_str_len(out, bytes.len() as u32);
            out.extend_from_slice(&bytes);
            head.map(drop).map_err(mlua::Error::external)
        }
        LuaValue::Table(table) => write_list(out, table),
        other => Err(mlua::Error::runtime(format!("not to be packed: {other:?}"))),
    }
}

fn write_list(out: &mut Vec<u8>, table: &Table) -> mlua::Result<()> {
    let len = table.raw_len();
    rmp::encode::write_array_len(out, len as u32).map_err(mlua::Error::external)?;
    for at in 1..=len {
        write(out, &table.raw_get(at)?)?;
    }
    Ok(())
}

fn unpacked(lua: &Lua, value: &rmpv::Value) -> mlua::Result<LuaValue> {
    Ok(match value {
        rmpv::Value::Nil => LuaValue::Nil,
        rmpv::Value::Boolean(flag) => LuaValue::Boolean(*flag),
        rmpv::Value::Integer(number) => LuaValue::Number(number.as_f64().unwrap_or(0.0)),
        rmpv::Value::F32(number) => LuaValue::Number((*number).into()),
        rmpv::Value::F64(number) => LuaValue::Number(*number),
        rmpv::Value::String(text) => LuaValue::String(lua.create_string(text.as_bytes())?),
        rmpv::Value::Binary(bytes) => LuaValue::String(lua.create_string(bytes)?),
        rmpv::Value::Array(values) => {
            let values = values.iter().map(|value| unpacked(lua, value));
            let values = values.collect::<mlua::Result<Vec<_>>>()?;
            LuaValue::Table(lua.create_sequence_from(values)?)
        }
        rmpv::Value::Map(_) | rmpv::Value::Ext(..) => {
            return Err(mlua::Error::runtime("maps are not packed here"));
        }
    })
}
