//! What has to be compared and written in one step, by the server and under its clock. Each touches one key.

use std::sync::LazyLock;

use redis::{Cmd, Script, cmd};

/// Defines `now`, and drops the fields whose time is up: values begin with a number of 20 digits and the end.
macro_rules! with_prelude {
    ($code:literal) => {
        LazyLock::new(|| {
            Script::new(concat!(
                "local time = redis.call('TIME')\n",
                "local now = time[1] * 1000 + math.floor(time[2] / 1000)\n",
                "local fields = redis.call('HGETALL', KEYS[1])\n",
                "local held = {}\n",
                "for i = 1, #fields, 2 do\n",
                "  local number, ends = string.match(fields[i + 1], '^(%d+) (%d+)')\n",
                "  if ends and tonumber(ends) > now then held[fields[i]] = number\n",
                "  else redis.call('HDEL', KEYS[1], fields[i]) end\n",
                "end\n",
                // Written for `ttl` milliseconds; the key lasts as long as the last of its fields.
                "local function put(field, number, ttl, rest)\n",
                "  local value = number .. string.format(' %.0f', now + ttl) .. rest\n",
                "  redis.call('HSET', KEYS[1], field, value)\n",
                "  if redis.call('PTTL', KEYS[1]) < tonumber(ttl) then redis.call('PEXPIRE', KEYS[1], ttl) end\n",
                "end\n",
                $code
            ))
        })
    };
}

/// Field, generation, time to live in ms: enters unless a newer generation is entered. 1 if nothing was.
pub(super) static ENTER: LazyLock<Script> = with_prelude!(
    "local entered = held[ARGV[1]]\n\
     if entered and entered > ARGV[2] then return 0 end\n\
     put(ARGV[1], ARGV[2], ARGV[3], '')\n\
     if entered then return 0 end\n\
     return 1"
);

/// Field, generation: takes out unless a newer generation is entered.
pub(super) static LEAVE: LazyLock<Script> = with_prelude!(
    "local entered = held[ARGV[1]]\n\
     if entered and entered <= ARGV[2] then return redis.call('HDEL', KEYS[1], ARGV[1]) end\n\
     return 0"
);

/// Pod, incarnation, time to live in ms, member as JSON.
pub(super) static ANNOUNCE: LazyLock<Script> = with_prelude!(
    "put(ARGV[1], ARGV[2], ARGV[3], ' ' .. ARGV[4])\n\
     return 1"
);

/// Pod, incarnation: takes out if it is this incarnation.
pub(super) static WITHDRAW: LazyLock<Script> = with_prelude!(
    "if held[ARGV[1]] == ARGV[2] then return redis.call('HDEL', KEYS[1], ARGV[1]) end\n\
     return 0"
);

/// Nothing: the server's time, and the fields of the hash. Together, as in a Cluster another node's clock may tell another
/// time than the one that the ends were written under.
pub(super) static READ: LazyLock<Script> =
    LazyLock::new(|| Script::new("return { redis.call('TIME'), redis.call('HGETALL', KEYS[1]) }"));

/// A call of a script that the server knows already.
pub(super) fn call(script: &Script, key: String, arguments: &[&str]) -> Cmd {
    let mut call = cmd("EVALSHA");
    call.arg(script.get_hash()).arg(1).arg(key).arg(arguments);
    call
}
