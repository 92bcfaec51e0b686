-- What scripts find, around what Python gives: `raw_call` runs a command, `gives` has functions on bytes and numbers.
-- Nothing that Python made is ever handed to a script: functions of Python are wrapped in Lua's own.
local raw_call, gives, now = ...

local error, type, tostring, select, pairs, rawset, pcall, xpcall = error, type, tostring, select, pairs, rawset, pcall, xpcall
local setmetatable, getmetatable, loadstring, setfenv = setmetatable, getmetatable, loadstring, setfenv
local byte, concat, find = string.byte, table.concat, string.find
local sethook, getinfo = debug.sethook, debug.getinfo

local READONLY = "Attempt to modify a readonly table"
local is_protected = setmetatable({}, { __mode = "k" })

-- Where the script is, or the function. A tail call leaves no trace; in a script of one line that does not matter.
local running, only_line = "user_script", -1
local function line_of_script()
  local level = 2
  local info = getinfo(level, "Sl")
  while info do
    if info.source == "@" .. running and info.currentline > 0 then return info.currentline end
    level = level + 1
    info = getinfo(level, "Sl")
  end
  return only_line
end

local function raise(text)
  error(running .. ":" .. line_of_script() .. ": " .. text, 0)
end

local function protect(real)
  local shown = setmetatable({}, {
    __index = real,
    __newindex = function() raise(READONLY) end,
    __metatable = false,
  })
  is_protected[shown] = true
  return shown
end

-- Scripts may make code from text, in their own surroundings, but not from bytes: those can break the interpreter.
local surroundings
local function safe_loadstring(text, name)
  if type(text) ~= "string" then error("bad argument #1 to 'loadstring' (string expected)", 2) end
  if byte(text, 1) == 27 then return nil, "bytecode is not allowed" end
  local made, problem = loadstring(text, name)
  if made then setfenv(made, surroundings) end
  return made, problem
end

local function safe_load(reader, name)
  local parts = {}
  while true do
    local part = reader()
    if part == nil or part == "" then break end
    parts[#parts + 1] = part
  end
  return safe_loadstring(concat(parts), name)
end

local function fail(text)
  error({ err = text, source = running, line = line_of_script() }, 0)
end

local redis = {
  LOG_DEBUG = 0, LOG_VERBOSE = 1, LOG_NOTICE = 2, LOG_WARNING = 3,
  REPL_ALL = 3, REPL_AOF = 1, REPL_SLAVE = 2, REPL_REPLICA = 2, REPL_NONE = 0,
  REDIS_VERSION = gives.version, REDIS_VERSION_NUM = gives.version_number,
}

local function checked(...)
  if select("#", ...) == 0 then return "ERR Please specify at least one argument for this redis lib call" end
  for i = 1, select("#", ...) do
    local kind = type((select(i, ...)))
    if kind ~= "string" and kind ~= "number" then
      return "ERR Lua redis lib command arguments must be strings or integers"
    end
  end
end

function redis.call(...)
  local problem = checked(...)
  if problem then fail(problem) end
  local answer = raw_call(...)
  if type(answer) == "table" and answer.err then fail(answer.err) end
  return answer
end

function redis.pcall(...)
  local problem = checked(...)
  if problem then return { err = problem } end
  return raw_call(...)
end

function redis.error_reply(text)
  if type(text) ~= "string" then return { err = "ERR wrong number or type of arguments" } end
  if byte(text, 1) == 45 then text = text:sub(2) end
  if not find(text, " ", 1, true) then text = "ERR " .. text end
  return { err = text }
end

function redis.status_reply(text)
  if type(text) ~= "string" then return { err = "ERR wrong number or type of arguments" } end
  return { ok = text }
end

function redis.sha1hex(text) return gives.sha1hex(tostring(text)) end
function redis.log(level, ...) gives.log(level, concat({ ... }, " ")) end
function redis.replicate_commands() return true end
function redis.set_repl() end
function redis.breakpoint() return false end
function redis.debug() end
function redis.setresp(version)
  if version ~= 2 and version ~= 3 then fail("ERR RESP version must be 2 or 3.") end
  gives.setresp(version)
end
function redis.acl_check_cmd(...)
  local answer = gives.acl_check(...)
  if answer == nil then fail("ERR Invalid command passed to redis.acl_check_cmd()") end
  return answer
end

-- cjson, from Lua's tables to text and back; Python checks and cuts the text.
local null = setmetatable({}, { __tostring = function() return "null" end, __metatable = false })
local cjson = { null = null, _NAME = "cjson", _VERSION = "2.1.0" }
local encode_text = gives.json_text

local function encode(value, parts, depth)
  local kind = type(value)
  if depth > 1000 then error("Cannot serialise, excessive depth (1001)", 0) end
  if value == nil or value == null then
    parts[#parts + 1] = "null"
  elseif kind == "boolean" then
    parts[#parts + 1] = tostring(value)
  elseif kind == "number" then
    if value ~= value or value == 1 / 0 or value == -1 / 0 then
      error("Cannot serialise number: must not be NaN or Inf", 0)
    end
    parts[#parts + 1] = ("%.14g"):format(value)
  elseif kind == "string" then
    parts[#parts + 1] = encode_text(value)
  elseif kind == "table" then
    local highest, count = 0, 0
    for key in pairs(value) do
      count = count + 1
      if type(key) ~= "number" or key < 1 or key % 1 ~= 0 then highest = nil end
      if highest and key > highest then highest = key end
    end
    if highest and highest > 10 and highest > count * 2 then error("Cannot serialise table: excessively sparse array", 0) end
    if highest and count > 0 then
      parts[#parts + 1] = "["
      for i = 1, highest do
        if i > 1 then parts[#parts + 1] = "," end
        encode(value[i], parts, depth + 1)
      end
      parts[#parts + 1] = "]"
    else
      parts[#parts + 1] = "{"
      local first = true
      for key, item in pairs(value) do
        if type(key) ~= "string" and type(key) ~= "number" then
          error("Cannot serialise table: table key must be a number or string", 0)
        end
        if not first then parts[#parts + 1] = "," end
        first = false
        parts[#parts + 1] = encode_text(tostring(key)) .. ":"
        encode(item, parts, depth + 1)
      end
      parts[#parts + 1] = "}"
    end
  else
    error("Cannot serialise " .. kind .. ": type not supported", 0)
  end
end

function cjson.encode(value)
  local parts = {}
  encode(value, parts, 1)
  return concat(parts)
end

function cjson.decode(text)
  local made, problem = gives.json_table(tostring(text), null)
  if problem then raise(problem) end
  return made
end

local bit = {}
for name, run in pairs(gives.bit) do
  bit[name] = function(...) return run(...) end
end

local api = {
  redis = protect(redis), cjson = protect(cjson), bit = protect(bit),
  string = protect(string), table = protect(table), math = protect(math), coroutine = nil,
  assert = assert, error = error, getmetatable = getmetatable, setmetatable = function(t, m)
    if is_protected[t] then fail("ERR " .. READONLY) end
    return setmetatable(t, m)
  end,
  ipairs = ipairs, pairs = pairs, next = next, rawequal = rawequal, rawget = rawget,
  rawset = function(t, k, v)
    if is_protected[t] then fail("ERR " .. READONLY) end
    return rawset(t, k, v)
  end,
  select = select, tonumber = tonumber, tostring = tostring, type = type, unpack = unpack,
  xpcall = xpcall, load = safe_load, loadstring = safe_loadstring,
  collectgarbage = function() return 0 end, gcinfo = function() return 0, 0 end, _VERSION = _VERSION,
  pcall = function(f, ...)
    local function back(ok, e, ...)
      if not ok and type(e) == "table" and type(e.err) == "string" then return ok, e.err end
      return ok, e, ...
    end
    return back(pcall(f, ...))
  end,
}
if gives.engine == "valkey" then api.server = api.redis end
string.dump = nil
getmetatable("").__metatable = false

local globals = setmetatable({}, {
  __index = function(_, name)
    raise("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'")
  end,
})
for name, value in pairs(api) do rawset(globals, name, value) end

local function overrun() error("script ran for too long", 0) end

-- Calls what may fail or take too long: gives whether it worked, and the answer or the error.
local function guarded(call, limit, ...)
  local deadline = now() + limit
  sethook(function()
    if now() > deadline then
      sethook(overrun, "", 1)
      overrun()
    end
  end, "", 10000)
  local line = -1
  local function explain(e)
    if type(e) == "table" then return e end
    line = line_of_script()
    return tostring(e)
  end
  local one, two = ...
  local ok, answer = xpcall(function() return call(one, two) end, explain)
  sethook()
  if ok then return "ok", answer end
  if type(answer) == "table" then return "table", answer.err, answer.line or -1 end
  return "error", answer, line
end

-- Functions: a library's code runs once, and sees then what registers them, and nothing else.
local registered
local function register_function(...)
  if not registered then fail("ERR redis.register_function can only be called on FUNCTION LOAD command") end
  local name, callback = ...
  local description, flags
  if select("#", ...) == 1 then
    if type(name) ~= "table" then
      fail("ERR calling redis.register_function with a single argument is only applicable to Lua table (representing named arguments).")
    end
    local given = name
    for key in pairs(given) do
      if key ~= "function_name" and key ~= "callback" and key ~= "description" and key ~= "flags" then
        fail("ERR unknown argument given to redis.register_function")
      end
    end
    name, callback, description, flags = given.function_name, given.callback, given.description, given.flags
    if name == nil then fail("ERR redis.register_function must get a function name argument") end
    if callback == nil then fail("ERR redis.register_function must get a callback argument") end
    for key, kind in pairs({ function_name = "string", description = "string", callback = "function" }) do
      if given[key] ~= nil and type(given[key]) ~= kind then
        fail("ERR " .. key .. " argument given to redis.register_function must be a " .. kind)
      end
    end
  elseif select("#", ...) ~= 2 then
    fail("ERR wrong number of arguments to redis.register_function")
  end
  if type(name) ~= "string" then fail("ERR first argument to redis.register_function must be a string") end
  if type(callback) ~= "function" then fail("ERR second argument to redis.register_function must be a function") end
  if flags ~= nil and type(flags) ~= "table" then
    fail("ERR flags argument to redis.register_function must be a table representing function flags")
  end
  local list = {}
  for i = 1, #(flags or {}) do list[i] = tostring(flags[i]) end
  registered[#registered + 1] = { name = name, callback = callback, description = description, flags = list }
end

local function nonexistent(_, name)
  raise("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'")
end

local loading = { redis = protect(setmetatable({
  register_function = register_function, log = redis.log, setresp = redis.setresp,
  LOG_DEBUG = 0, LOG_VERBOSE = 1, LOG_NOTICE = 2, LOG_WARNING = 3,
  REDIS_VERSION = gives.version, REDIS_VERSION_NUM = gives.version_number,
}, { __index = nonexistent })) }
if gives.engine == "valkey" then loading.server = loading.redis end

local function load_library(text, limit)
  local chunk, problem = loadstring(text, "@user_function")
  if not chunk then return "compile", problem end
  running, only_line = "user_function", -1
  registered = {}
  local here
  here = setmetatable({}, {
    __index = function(_, key)
      if registered == nil then return key == "_G" and here or globals[key] end
      return loading[key] or nonexistent(loading, key)
    end,
    __newindex = function() raise(READONLY) end,
    __metatable = false,
  })
  is_protected[here] = true
  setfenv(chunk, here)
  local kind, answer, line = guarded(chunk, limit)
  local made = registered
  registered = nil
  if kind == "ok" then return kind, made, here end
  return kind, answer, line
end

-- Calls a function of a library, in whose surroundings it may make code from text.
local function call_function(callback, where, keys, argv, limit)
  local info = getinfo(callback, "S")
  running, only_line = "user_function", info.linedefined == info.lastlinedefined and info.linedefined or -1
  surroundings = where
  return guarded(callback, limit, keys, argv)
end

local function run_script(text, name, keys, argv, limit)
  local script, problem = loadstring(text, name)
  if not script then return "compile", problem end
  running, only_line = "user_script", find(text, "\n", 1, true) and -1 or 1
  surroundings = setmetatable({}, {
    __index = function(_, key)
      if key == "KEYS" then return keys end
      if key == "ARGV" then return argv end
      if key == "_G" then return surroundings end
      return globals[key]
    end,
    __newindex = function() raise(READONLY) end,
    __metatable = false,
  })
  is_protected[surroundings] = true
  setfenv(script, surroundings)
  return guarded(script, limit)
end

return run_script, load_library, call_function
