"""Scripts as a real Redis 7.0 runs them."""

import pytest

from tests.embedded.redis.differential import Pair

SCRIPTS = r"""
return {1, 2.9, -2.9, 'a', true, false, nil, 5}
return {1e300, -1e300, 0/0, 1/0, 2^53, 2^62, 2^63, -0.5}
return {bit.band(2.5,255), bit.band(3.5,255), bit.tobit(2^40+5), bit.tohex(255), bit.tohex(255,-4), bit.bswap(1), bit.rol(1,33), bit.ror(1,1), bit.arshift(-8,1), bit.rshift(-8,28), bit.bnot(0), bit.bxor(5,3,1), bit.bor(1,2,4), bit.lshift(1,31), bit.tohex(-1), bit.tohex(10, 2), bit.ror(5,0), bit.rol(5,0)}
return type(cjson.null)
rawset(cjson.null, 1, 2)
table.insert(redis, 1)
return rawset(_G, 1, 2)
x = 1
return foo
string.x = 1
setmetatable(_G, {})
return {double=0.1}
return {double=3}
return {double=1/0}
return {map={a=1}}
return {set={a=true}}
return {verbatim_string={format="txt",string="abc"}}
return {err='My error'}
return {ok='fine'}
return {1, {err='inner'}, {ok='x'}}
return redis.error_reply('MY err')
return redis.error_reply('nospace')
return redis.error_reply('-DASH err')
return redis.status_reply('st')
return redis.error_reply(1)
return redis.error_reply({})
return cjson.decode("[1,")
return cjson.decode("{\"a\":tru}")
return cjson.decode("x")
return cjson.decode("")
return cjson.decode("[1 2]")
return cjson.decode("{1:2}")
return cjson.decode("{\"a\" 2}")
return cjson.decode("{\"a\":2 \"b\":3}")
return cjson.decode("[1] x")
return cjson.decode("\"abc")
return cjson.decode("\"\\x\"")
return cjson.decode("\"\\u12\"")
return cjson.decode("\"\\ud83d\\ude00 \\u00e9 \\u20ac\"")
return cjson.decode("[1.5,-2e3,true,false,null,\"a\\n\\/\"]")
return cjson.decode("{\"a\":[1,{\"b\":null}]}").a
return cjson.decode("nul")
return cjson.decode("tru")
return cjson.decode("[1,]")
return cjson.decode("{,}")
return cjson.decode({})
return cjson.decode(5)
return cjson.decode()
return cjson.encode()
return cjson.encode({1,2,{a=1.5}, "x/\n\0\127"})
return cjson.encode({})
return cjson.encode({[1]=1,[100]=2})
return cjson.encode({[1.5]=1})
return cjson.encode({[true]=1})
return cjson.encode(function() end)
return cjson.encode(0/0)
return cjson.encode({1,nil,3})
return cjson.encode(123456789012345678)
return cjson.encode("\\\"")
local t = {} t[1]=t return cjson.encode(t)
return xpcall(1)
return {xpcall(function() error("a") end, function(e) return "h" .. e end)}
return {xpcall(function() error("a") end, function(e) return error(e) end)}
local function f(n) return f(n+1)+1 end return f(1)
return setmetatable({}, {__index=function(t,k) return error("x") end})
return setmetatable({}, {__index=function(t,k) return 1 end})
error({err="My Error"})
error('x')
error('x', 0)
error()
error(5)
redis.call('SET', KEYS[1])
redis.call()
redis.call({})
redis.pcall()
return redis.pcall()
return redis.pcall({})
return redis.call('FOO')
return redis.pcall('FOO')
return redis.call('SUBSCRIBE', 'x')
return redis.call('EVAL', 'return 1', 0)
return redis.call('SET', KEYS[1], 1.5)
return redis.call('GET', KEYS[1])
return redis.call('INCR', KEYS[1])
local e = redis.pcall('INCR', KEYS[1]) return e.err
return redis.call('HSET', '{t}h', 'a', 1)
return redis.call('HGETALL', '{t}h')
redis.setresp(3) return redis.call('HGETALL', '{t}h')
redis.setresp(3) return redis.call('HGETALL', '{t}h').map.a
redis.setresp(3) return redis.call('GET', '{t}none') == nil
return redis.call('GET', '{t}none') == false
redis.setresp(3) redis.call('ZADD', '{t}z', 1.5, 'm') return redis.call('ZSCORE', '{t}z', 'm')
return redis.call('ZSCORE', '{t}z', 'm')
redis.setresp(3) redis.call('SADD', '{t}s', 'm') return redis.call('SMEMBERS', '{t}s')
redis.setresp(3) return true
redis.setresp(3) return false
redis.setresp(3) return {true, false}
redis.setresp(4)
redis.setresp()
return redis.sha1hex('a')
return redis.sha1hex({})
return redis.sha1hex()
return redis.sha1hex(5)
redis.log(1, 'x')
redis.log(1)
redis.log('x', 'y')
return redis.acl_check_cmd('GET', 'x')
return redis.acl_check_cmd('FOO')
return redis.REDIS_VERSION_NUM
return redis.REDIS_VERSION
return {KEYS[1], ARGV[1], #KEYS, #ARGV}
KEYS[2] = 'x' return KEYS[2]
return #redis.call('KEYS', 'nothing*')
return loadstring('return 5')()
return {loadstring('syntax error')}
return {loadstring('\27Lua')}
return {load(function() return nil end)}
return load(function() return nil end) == nil
return loadstring({})
return tostring(nil) .. tostring(true) .. tostring(1.5)
return string.format('%d %s %5.2f %q', 1, 'x', 1.234, 'a"b')
return string.rep('ab', 3)
return ('x'):upper()
return table.concat({1,2,3}, ',')
return {unpack({1,2,3})}
return select('#', 1, nil, nil)
return next({})
return type(next)
return math.floor(1.7)
return redis
return _G
return pcall
return nil
return
this is not lua
return {1, nil, 3}
return {[2]=5}
return {a=1}
local a = {} for i=1,300 do a[i] = i end return a
return redis.breakpoint()
return redis.replicate_commands()
return os.time() > 0
return os.clock() >= 0
return print
return collectgarbage('count') >= 0
return string.find('abc', 'b')
return {string.gsub('abc', '%w', '%0%0')}
return {pcall(error, {err='z'})}
return {pcall(error, 'z')}
return {pcall(redis.call, 'FOO')}
""".strip().split("\n")


@pytest.mark.parametrize("resp", [2, 3])
def test_as_a_real_one(real: int, resp: int) -> None:
    """Every reply is the same, errors included."""
    with Pair(real, resp) as pair:
        pair.real(b"FLUSHALL")
        for script in SCRIPTS:
            assert pair.differ((b"EVAL", script.encode(), b"1", b"{t}k", b"v")) is None, script
