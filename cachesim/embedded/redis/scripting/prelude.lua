-- The environment of scripts, and how they are run. Of Python there are only functions that take bytes and return
-- bytes, and scripts never get these: `ask` returns the reply to a request, `tell` sends one without a reply.
local ask, tell, sha1hex, version, engine, packing = ...

local error, type, tostring, tonumber, select, pairs, next = error, type, tostring, tonumber, select, pairs, next
local rawset, rawget, pcall, xpcall, setmetatable, getmetatable = rawset, rawget, pcall, xpcall, setmetatable, getmetatable
local loadstring, setfenv, collectgarbage, clock = loadstring, setfenv, collectgarbage, os.clock
local byte, sub, find, gsub, format = string.byte, string.sub, string.find, string.gsub, string.format
local char, lower, match = string.char, string.lower, string.match
local concat, floor = table.concat, math.floor
local getinfo, sethook = debug.getinfo, debug.sethook

local READONLY = "Attempt to modify a readonly table"
local LOAD_LIMIT = 0.5 -- seconds of CPU time, Redis's limit for the code of a library
local LONGEST = 64 * 2 ^ 20 -- bytes that are sent at once at most
local DEEPEST = 1000
local MUCH = 64 * 1024 -- KB in use above which garbage is collected before the next script

local protected = setmetatable({}, { __mode = "k" }) -- what scripts see, and what it stands for
local null = newproxy(false)

-- The line that the script or function has reached. A tail call leaves no trace; in a script of one line that is no
-- loss.
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

-- Return the number of the line with code, or -1 if there are several.
local function sole_line(text)
  local found, number, at = -1, 1, 1
  while at <= #text do
    local stop = find(text, "\n", at, true) or #text + 1
    local code = find(text, "[^ \t\r]", at)
    if code and code < stop then
      if found > 0 then return -1 end
      found = number
    end
    number, at = number + 1, stop + 1
  end
  return found
end

local function raise(text)
  error(running .. ":" .. line_of_script() .. ": " .. text, 0)
end

local function fail(text)
  error({ err = text, source = running, line = line_of_script() }, 0)
end

local function protect(real)
  local shown = setmetatable({}, {
    __index = real,
    __newindex = function() raise(READONLY) end,
    __metatable = false,
  })
  protected[shown] = real
  return shown
end

-- A function that changes its first argument, but refuses to change protected tables.
local function guarding(name, change)
  return function(t, ...)
    if protected[t] then fail("ERR " .. READONLY) end
    if type(t) ~= "table" then
      raise("bad argument #1 to '" .. name .. "' (table expected, got " .. (t == nil and "no value" or type(t)) .. ")")
    end
    return change(t, ...)
  end
end

-- --- messages -------------------------------------------------------------------------------------------------------

local function bulk(text) return "$" .. #text .. "\r\n" .. text .. "\r\n" end

local function joined(parts)
  local size = 0
  for i = 1, #parts do size = size + #parts[i] end
  if size > LONGEST then error("a script may give 64 MB at once here", 0) end
  return concat(parts)
end

local function request(...)
  local parts = { "*" .. select("#", ...) .. "\r\n" }
  for i = 1, select("#", ...) do
    local word = select(i, ...)
    parts[i + 1] = bulk(type(word) == "number" and format("%.17g", word) or word)
  end
  return joined(parts)
end

-- Return a reply as scripts see it, and the position after it.
local function read(data, at)
  local stop = find(data, "\r\n", at, true)
  local sign, line = byte(data, at), sub(data, at + 1, stop - 1)
  at = stop + 2
  if sign == 36 or sign == 61 then -- $ =
    local size = tonumber(line)
    if size < 0 then return false, at end
    local text = sub(data, at, at + size - 1)
    if sign == 61 then text = { verbatim_string = { format = sub(text, 1, 3), string = sub(text, 5) } } end
    return text, at + size + 2
  elseif sign == 58 then return tonumber(line), at -- :
  elseif sign == 43 then return { ok = line }, at -- +
  elseif sign == 45 then return { err = line }, at -- -
  elseif sign == 95 then return nil, at -- _
  elseif sign == 35 then return line == "t", at -- #
  elseif sign == 44 then return { double = tonumber(line) }, at -- ,
  end
  local size, items, key = tonumber(line), {}, nil
  if size < 0 then return false, at end
  if sign == 37 then -- %
    for _ = 1, size do
      key, at = read(data, at)
      items[key], at = read(data, at)
    end
    return { map = items }, at
  elseif sign == 126 then -- ~
    for _ = 1, size do
      key, at = read(data, at)
      items[key] = true
    end
    return { set = items }, at
  end
  for i = 1, size do items[i], at = read(data, at) end
  return items, at
end

-- The version of the protocol in which commands answer the script, and the version of the client.
local script_resp, client_resp = 2, 2

local function line_of(text) return gsub(text, "[\r\n]", " ") .. "\r\n" end

local put
local function put_pairs(parts, sign, items, depth, with_values)
  local at, count = #parts + 1, 0
  parts[at] = ""
  for key, value in next, items do
    count = count + 1
    put(parts, key, depth)
    if with_values then put(parts, value, depth) end
  end
  local is_pairs = with_values and client_resp == 2
  parts[at] = (client_resp == 3 and sign or "*") .. (is_pairs and 2 * count or count) .. "\r\n"
end

-- Return the result of a script as the client gets it.
function put(parts, value, depth)
  local kind, text = type(value), nil
  if kind == "string" then
    text = bulk(value)
  elseif kind == "number" then
    local fits = value > -2 ^ 63 and value < 2 ^ 63
    text = ":" .. (fits and format("%.0f", value < 0 and -floor(-value) or floor(value)) or "-9223372036854775808") .. "\r\n"
    if text == ":-0\r\n" then text = ":0\r\n" end
  elseif kind == "boolean" and script_resp == 3 then
    text = client_resp == 3 and (value and "#t\r\n" or "#f\r\n") or (value and ":1\r\n" or ":0\r\n")
  elseif kind == "boolean" and value then
    text = ":1\r\n"
  elseif kind ~= "table" then
    text = client_resp == 3 and "_\r\n" or "$-1\r\n"
  elseif depth > DEEPEST then
    text = "-ERR reached lua stack limit\r\n"
  else
    local field = rawget(value, "err")
    if type(field) == "string" then
      parts[#parts + 1] = "-" .. line_of(field)
      return
    end
    field = rawget(value, "ok")
    if type(field) == "string" then
      parts[#parts + 1] = "+" .. line_of(field)
      return
    end
    field = rawget(value, "double")
    if type(field) == "number" then
      local shown = field ~= field and "nan" or format("%.17g", field)
      parts[#parts + 1] = client_resp == 3 and "," .. shown .. "\r\n" or bulk(shown)
      return
    end
    field = rawget(value, "map")
    if type(field) == "table" then return put_pairs(parts, "%", field, depth + 1, true) end
    field = rawget(value, "set")
    if type(field) == "table" then return put_pairs(parts, "~", field, depth + 1, false) end
    field = rawget(value, "big_number")
    if type(field) == "string" then
      field = gsub(field, "[\r\n]", " ")
      parts[#parts + 1] = client_resp == 3 and "(" .. field .. "\r\n" or bulk(field)
      return
    end
    field = rawget(value, "verbatim_string")
    if type(field) == "table" then
      local what, said = rawget(field, "format"), rawget(field, "string")
      if type(what) == "string" and type(said) == "string" then
        what = sub(what .. "   ", 1, 3)
        parts[#parts + 1] = client_resp == 3 and "=" .. sub(bulk(what .. ":" .. said), 2) or bulk(said)
        return
      end
    end
    local at, count = #parts + 1, 0
    parts[at] = ""
    while true do
      local item = rawget(value, count + 1)
      if item == nil then break end
      count = count + 1
      put(parts, item, depth + 1)
    end
    text, parts[at] = nil, "*" .. count .. "\r\n"
  end
  parts[#parts + 1] = text
end

-- --- code from text -------------------------------------------------------------------------------------------------

-- Bytecode can crash the interpreter. Code that begins with a blank is always text.
local function compile(text, name) return loadstring(" " .. text, name) end

-- Scripts may compile text, in their own environment.
local surroundings
local function safe_loadstring(text, name)
  if type(text) == "number" then text = tostring(text) end
  if type(text) ~= "string" then raise("bad argument #1 to 'loadstring' (string expected, got " .. type(text) .. ")") end
  local made, problem = compile(text, type(name) == "string" and name or text)
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
  return safe_loadstring(concat(parts), type(name) == "string" and name or "=(load)")
end

-- --- redis ----------------------------------------------------------------------------------------------------------

local major, minor, patch = version:match("(%d+)%.(%d+)%.(%d+)")
local redis = {
  LOG_DEBUG = 0, LOG_VERBOSE = 1, LOG_NOTICE = 2, LOG_WARNING = 3,
  REPL_ALL = 3, REPL_AOF = 1, REPL_SLAVE = 2, REPL_REPLICA = 2, REPL_NONE = 0,
  REDIS_VERSION = version, REDIS_VERSION_NUM = major * 65536 + minor * 256 + patch,
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

local function answer_to(kind, ...)
  return (read(ask(request(kind, tostring(script_resp), ...)), 1))
end

function redis.call(...)
  local problem = checked(...)
  if problem then fail(problem) end
  local answer = answer_to("CALL", ...)
  if type(answer) == "table" and answer.err then fail(answer.err) end
  return answer
end

function redis.pcall(...)
  local problem = checked(...)
  if problem then return { err = problem } end
  return answer_to("CALL", ...)
end

function redis.error_reply(...)
  local text = ...
  if select("#", ...) ~= 1 or type(text) ~= "string" then return { err = "ERR wrong number or type of arguments" } end
  if byte(text, 1) == 45 then text = sub(text, 2) end
  if not find(text, " ", 1, true) then text = "ERR " .. text end
  return { err = text }
end

function redis.status_reply(...)
  local text = ...
  if select("#", ...) ~= 1 or type(text) ~= "string" then return { err = "ERR wrong number or type of arguments" } end
  return { ok = text }
end

function redis.sha1hex(...)
  if select("#", ...) ~= 1 then fail("ERR wrong number of arguments") end
  local text = ...
  if type(text) == "number" then text = tostring(text) end
  return sha1hex(type(text) == "string" and text or "")
end

function redis.log(level, ...)
  if select("#", ...) == 0 then fail("ERR redis.log() requires two arguments or more.") end
  level = tonumber(level)
  if not level then fail("ERR First argument must be a number (log level).") end
  if level < 0 or level >= 4 then fail("ERR Invalid debug level.") end
  local words = {}
  for i = 1, select("#", ...) do
    local word = select(i, ...)
    if type(word) == "string" or type(word) == "number" then words[#words + 1] = tostring(word) end
  end
  tell(request("LOG", sub(concat(words, " "), 1, 1024)))
end

function redis.replicate_commands() return true end
function redis.set_repl(...)
  if select("#", ...) ~= 1 then fail("ERR redis.set_repl() requires two arguments.") end
  local flags = tonumber((...)) or 0
  if flags < 0 or flags >= 4 then
    fail("ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.")
  end
end
function redis.breakpoint() return false end
function redis.debug() end
function redis.setresp(...)
  if select("#", ...) ~= 1 then fail("ERR redis.setresp() requires one argument.") end
  local wanted = floor(tonumber((...)) or 0)
  if wanted ~= 2 and wanted ~= 3 then fail("ERR RESP version must be 2 or 3.") end
  script_resp = wanted
end
function redis.acl_check_cmd(...)
  local problem = checked(...)
  if problem then fail(problem) end
  local answer = answer_to("ACL", ...)
  if not answer then fail("ERR Invalid command passed to redis.acl_check_cmd()") end
  return answer == 1
end

-- --- cjson ----------------------------------------------------------------------------------------------------------

-- The settings of the cjson that is in use.
local json
local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["/"] = "\\/", ["\127"] = "\\u007f" }
for code = 0, 31 do escapes[char(code)] = format("\\u%04x", code) end
escapes["\b"], escapes["\t"], escapes["\n"], escapes["\f"], escapes["\r"] = "\\b", "\\t", "\\n", "\\f", "\\r"

local function encode_text(text) return '"' .. gsub(text, '[%z\1-\31"\\/\127]', escapes) .. '"' end

local function encode(value, parts, depth)
  local kind = type(value)
  if depth > json.encode_max_depth then raise("Cannot serialise, excessive nesting (" .. depth .. ")") end
  if value == nil or value == null then
    parts[#parts + 1] = "null"
  elseif kind == "boolean" then
    parts[#parts + 1] = tostring(value)
  elseif kind == "number" then
    local text = format("%." .. json.encode_number_precision .. "g", value)
    if value ~= value or value == 1 / 0 or value == -1 / 0 then
      if not json.encode_invalid_numbers then raise("Cannot serialise number: must not be NaN or Inf") end
      if json.encode_invalid_numbers == "null" then text = "null" end
      if value ~= value and text ~= "null" then text = "nan" end
    end
    parts[#parts + 1] = text
  elseif kind == "string" then
    parts[#parts + 1] = encode_text(value)
  elseif kind == "table" then
    local highest, count = 0, 0
    for key in next, value do
      count = count + 1
      if type(key) ~= "number" or key < 1 or key % 1 ~= 0 then highest = nil end
      if highest and key > highest then highest = key end
    end
    local sparse = json.sparse
    if highest and sparse.ratio > 0 and highest > sparse.safe and highest > count * sparse.ratio then
      if not sparse.convert then raise("Cannot serialise table: excessively sparse array") end
      highest = nil
    end
    if highest and count > 0 then
      parts[#parts + 1] = "["
      for i = 1, highest do
        if i > 1 then parts[#parts + 1] = "," end
        encode(rawget(value, i), parts, depth + 1)
      end
      parts[#parts + 1] = "]"
    else
      parts[#parts + 1] = "{"
      local first = true
      for key, item in next, value do
        if type(key) ~= "string" and type(key) ~= "number" then
          raise("Cannot serialise " .. type(key) .. ": table key must be a number or string")
        end
        if not first then parts[#parts + 1] = "," end
        first = false
        parts[#parts + 1] = encode_text(tostring(key)) .. ":"
        encode(item, parts, depth + 1)
      end
      parts[#parts + 1] = "}"
    end
  else
    raise("Cannot serialise " .. kind .. ": type not supported")
  end
end

local TOKENS = {
  ["{"] = "T_OBJ_BEGIN", ["}"] = "T_OBJ_END", ["["] = "T_ARR_BEGIN", ["]"] = "T_ARR_END", [","] = "T_COMMA",
  [":"] = "T_COLON", ['"'] = "T_STRING", [""] = "T_END",
}
local LITERALS = { { "true", true }, { "false", false }, { "null", null } }
local UNESCAPED = {
  b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", ['"'] = '"', ["\\"] = "\\", ["/"] = "/",
}

-- Return a code point as UTF-8.
local function utf8(code)
  if code < 0x80 then return char(code) end
  local last = char(0x80 + code % 0x40)
  if code < 0x800 then return char(0xC0 + floor(code / 0x40)) .. last end
  last = char(0x80 + floor(code / 0x40) % 0x40) .. last
  if code < 0x10000 then return char(0xE0 + floor(code / 0x1000)) .. last end
  return char(0xF0 + floor(code / 0x40000), 0x80 + floor(code / 0x1000) % 0x40) .. last
end

local decode
local function blanks(text, at) return find(text, "[^ \t\r\n]", at) or #text + 1 end

-- Return whether a number begins here, perhaps a wrong one.
local function begins_number(text, at)
  if not json.decode_invalid_numbers then return find(text, "^[-%d]", at) end
  return find(text, "^[-+%d]", at) or find(text, "^[iI][nN][fF]", at) or find(text, "^[nN][aA][nN]", at)
end

-- Return the number here as C reads it, and where it ends; nil if there is none.
local function number_at(text, at)
  if not json.decode_invalid_numbers and find(lower(sub(text, at, at + 3)), "^-?[0in][xna%d]") then return nil end
  local _, stop, digits = find(text, "^[-+]?0[xX](%x+)", at)
  if stop then
    local number = tonumber(digits, 16)
    return sub(text, at, at) == "-" and -number or number, stop
  end
  _, stop = find(text, "^[-+]?%d+%.?%d*", at)
  if not stop then _, stop = find(text, "^[-+]?%.%d+", at) end
  if stop then
    local _, later = find(text, "^[eE][-+]?%d+", stop + 1)
    stop = later or stop
    return tonumber(sub(text, at, stop)), stop
  end
  local sign, word = match(text, "^([-+]?)(%a%a%a)", at)
  word = word and lower(word)
  if word == "inf" then return sign == "-" and -1 / 0 or 1 / 0, at + #sign + 2 end
  if word == "nan" then return sign == "-" and 0 / 0 or -(0 / 0), at + #sign + 2 end
end

local function unexpected(text, at, wanted)
  local found = TOKENS[sub(text, at, at)]
  if not found then
    found = not begins_number(text, at) and "invalid token" or number_at(text, at) and "T_NUMBER" or "invalid number"
    for i = 1, 3 do
      local word = LITERALS[i][1]
      if sub(text, at, at + #word - 1) == word then found = word == "null" and "T_NULL" or "T_BOOLEAN" end
    end
  end
  raise("Expected " .. wanted .. " but found " .. found .. " at character " .. at)
end

local function decode_text(text, at)
  local parts, from = {}, at + 1
  while true do
    local stop = find(text, '[%z"\\]', from)
    local sign = stop and sub(text, stop, stop)
    if not stop or sign == "\0" then
      raise("Expected value but found unexpected end of string at character " .. (stop or #text + 1))
    end
    parts[#parts + 1] = sub(text, from, stop - 1)
    if sign == '"' then return concat(parts), stop + 1 end
    local plain = UNESCAPED[sub(text, stop + 1, stop + 1)]
    from = stop + 2
    if not plain then
      local _, last, digits = find(text, "^\\u(%x%x%x%x)", stop)
      local code = digits and tonumber(digits, 16)
      if code and code >= 0xD800 and code < 0xE000 then
        local _, further, low = find(text, "^\\u(%x%x%x%x)", last + 1)
        local second = low and tonumber(low, 16)
        if code < 0xDC00 and second and second >= 0xDC00 and second < 0xE000 then
          code, last = 0x10000 + (code - 0xD800) * 0x400 + second - 0xDC00, further
        else
          code = nil
        end
      end
      if not code then
        local what = sub(text, stop + 1, stop + 1) == "u" and "invalid unicode escape code" or "invalid escape code"
        raise("Expected value but found " .. what .. " at character " .. stop)
      end
      plain, from = utf8(code), last + 1
    end
    parts[#parts + 1] = plain
  end
end

function decode(text, at, depth)
  at = blanks(text, at)
  local sign = sub(text, at, at)
  if sign == '"' then return decode_text(text, at) end
  if (sign == "{" or sign == "[") and depth > json.decode_max_depth then
    raise("Found too many nested data structures (" .. depth .. ") at character " .. at)
  end
  if sign == "{" then
    local made, key = {}, nil
    at = blanks(text, at + 1)
    if sub(text, at, at) == "}" then return made, at + 1 end
    while true do
      if sub(text, at, at) ~= '"' then unexpected(text, at, "object key string") end
      key, at = decode_text(text, at)
      at = blanks(text, at)
      if sub(text, at, at) ~= ":" then unexpected(text, at, "colon") end
      made[key], at = decode(text, at + 1, depth + 1)
      at = blanks(text, at)
      sign = sub(text, at, at)
      if sign == "}" then return made, at + 1 end
      if sign ~= "," then unexpected(text, at, "comma or object end") end
      at = blanks(text, at + 1)
    end
  elseif sign == "[" then
    local made, count = {}, 0
    at = blanks(text, at + 1)
    if sub(text, at, at) == "]" then return made, at + 1 end
    while true do
      count = count + 1
      made[count], at = decode(text, at, depth + 1)
      at = blanks(text, at)
      sign = sub(text, at, at)
      if sign == "]" then return made, at + 1 end
      if sign ~= "," then unexpected(text, at, "comma or array end") end
      at = at + 1
    end
  end
  for i = 1, 3 do
    local word = LITERALS[i][1]
    if sub(text, at, at + #word - 1) == word then return LITERALS[i][2], at + #word end
  end
  local number, stop
  if begins_number(text, at) then number, stop = number_at(text, at) end
  if number then return number, stop + 1 end
  unexpected(text, at, "value")
end

-- Return the argument of a setting; nil if there is none.
local function setting(name, most, ...)
  if select("#", ...) > most then
    raise("bad argument #" .. most + 1 .. " to '" .. name .. "' (found too many arguments)")
  end
  return ...
end

local HIGHEST = 2147483647
local function whole(name, at, lowest, highest, value)
  local number = tonumber(value)
  if type(value) == "table" or not number then
    raise("bad argument #" .. at .. " to '" .. name .. "' (number expected, got " .. type(value) .. ")")
  end
  number = number < 0 and -floor(-number) or floor(number)
  if number < lowest or number > highest then
    local wanted = "expected integer between " .. lowest .. " and " .. highest
    raise("bad argument #1 to '" .. name .. "' (" .. wanted .. ")")
  end
  return number
end

-- Return what `on`, `off`, and perhaps `null`, stand for.
local function choice(name, at, value, may_be_null)
  if type(value) == "boolean" then return value end
  if value == "on" or value == "off" then return value == "on" end
  if value == "null" and may_be_null then return value end
  if type(value) == "string" or type(value) == "number" then
    raise("bad argument #" .. at .. " to '" .. name .. "' (invalid option '" .. value .. "')")
  end
  raise("bad argument #" .. at .. " to '" .. name .. "' (string expected, got " .. type(value) .. ")")
end

local new_cjson
function new_cjson()
  local mine = {
    encode_max_depth = DEEPEST, decode_max_depth = DEEPEST, encode_number_precision = 14, encode_keep_buffer = true,
    encode_invalid_numbers = false, decode_invalid_numbers = true, sparse = { convert = false, ratio = 2, safe = 10 },
  }
  local cjson = { null = null, _NAME = "cjson", _VERSION = "2.1.0" }

  function cjson.encode(...)
    if select("#", ...) ~= 1 then raise("bad argument #1 to 'encode' (expected 1 argument)") end
    json = mine
    local parts = {}
    encode((...), parts, 1)
    return concat(parts)
  end

  function cjson.decode(...)
    local text = ...
    if select("#", ...) ~= 1 then raise("bad argument #1 to 'decode' (expected 1 argument)") end
    if type(text) == "number" then text = tostring(text) end
    if type(text) ~= "string" then raise("bad argument #1 to 'decode' (string expected, got " .. type(text) .. ")") end
    json = mine
    local value, at = decode(text, 1, 1)
    at = blanks(text, at)
    if at <= #text then unexpected(text, at, "the end") end
    return value
  end

  for name, highest in pairs({ encode_max_depth = HIGHEST, decode_max_depth = HIGHEST, encode_number_precision = 14 }) do
    cjson[name] = function(...)
      local value = setting(name, 1, ...)
      if value ~= nil then mine[name] = whole(name, 1, 1, highest, value) end
      return mine[name]
    end
  end
  for _, name in pairs({ "encode_keep_buffer", "encode_invalid_numbers", "decode_invalid_numbers" }) do
    cjson[name] = function(...)
      local value = setting(name, 1, ...)
      if value ~= nil then mine[name] = choice(name, 1, value, name == "encode_invalid_numbers") end
      return mine[name]
    end
  end
  function cjson.encode_sparse_array(...)
    local name, sparse = "encode_sparse_array", mine.sparse
    local convert, ratio, safe = setting(name, 3, ...)
    if convert ~= nil then sparse.convert = choice(name, 1, convert) end
    if ratio ~= nil then sparse.ratio = whole(name, 2, 0, HIGHEST, ratio) end
    if safe ~= nil then sparse.safe = whole(name, 3, 0, HIGHEST, safe) end
    return sparse.convert, sparse.ratio, sparse.safe
  end
  cjson.new = new_cjson
  return cjson
end

-- --- bit ------------------------------------------------------------------------------------------------------------

local ROUNDING = 2 ^ 52 + 2 ^ 51

-- Return a number as an unsigned one of 32 bits.
local function bits(value, at, name)
  local number = tonumber(value)
  if type(value) == "table" or not number then
    local kind = value == nil and "no value" or type(value)
    raise("bad argument #" .. at .. " to '" .. name .. "' (number expected, got " .. kind .. ")")
  end
  number = (number + ROUNDING - ROUNDING) % 2 ^ 32
  return number == number and number or 0
end

local function signed(number) return number >= 2 ^ 31 and number - 2 ^ 32 or number end

local function folded(name, wanted)
  return function(...)
    local result = bits((...), 1, name)
    for i = 2, select("#", ...) do
      local other, place, made = bits((select(i, ...)), i, name), 1, 0
      for _ = 1, 32 do
        local one, two = result % 2, other % 2
        if wanted(one + two) then made = made + place end
        result, other, place = (result - one) / 2, (other - two) / 2, place * 2
      end
      result = made
    end
    return signed(result)
  end
end

local function left(number, by) return number * 2 ^ by % 2 ^ 32 end
local function right(number, by) return floor(number / 2 ^ by) end
local function shift(name, run)
  return function(number, by) return signed(run(bits(number, 1, name), bits(by, 2, name) % 32)) end
end

local bit = {
  tobit = function(number) return signed(bits(number, 1, "tobit")) end,
  bnot = function(number) return signed(2 ^ 32 - 1 - bits(number, 1, "bnot")) end,
  band = folded("band", function(sum) return sum == 2 end),
  bor = folded("bor", function(sum) return sum > 0 end),
  bxor = folded("bxor", function(sum) return sum == 1 end),
  lshift = shift("lshift", left),
  rshift = shift("rshift", right),
  arshift = shift("arshift", function(number, by) return floor(signed(number) / 2 ^ by) % 2 ^ 32 end),
  rol = shift("rol", function(number, by) return left(number, by) + right(number, 32 - by) end),
  ror = shift("ror", function(number, by) return right(number, by) + left(number, (32 - by) % 32) * (by > 0 and 1 or 0) end),
  bswap = function(number)
    local made = 0
    number = bits(number, 1, "bswap")
    for _ = 1, 4 do number, made = floor(number / 256), made * 256 + number % 256 end
    return signed(made)
  end,
  tohex = function(number, digits)
    local count = digits == nil and 8 or signed(bits(digits, 2, "tohex"))
    local text = format(count < 0 and "%08X" or "%08x", bits(number, 1, "tohex"))
    if count < 0 then count = -count end
    return count >= 8 and text or sub(text, 9 - count)
  end,
}

local struct, cmsgpack = loadstring(packing, "@packing")(raise)

-- --- what scripts see -----------------------------------------------------------------------------------------------

string.dump = nil
getmetatable("").__metatable = false
table.insert, table.remove, table.sort =
  guarding("insert", table.insert), guarding("remove", table.remove), guarding("sort", table.sort)

-- Return the global variables that a script, or the code of a library, sees in its `_G`.
local globals
local function globals_in(t)
  local all = {}
  for name, value in next, globals do all[name] = value end
  all._G = t
  if running == "user_script" then all.KEYS, all.ARGV = t.KEYS, t.ARGV end
  return all
end

-- `next` and `pairs`, which give away nothing of a protected table but what is in it.
local function of_table(name, run)
  return function(...)
    local t = ...
    if type(t) ~= "table" then
      local got = select("#", ...) == 0 and "no value" or type(t)
      raise("bad argument #1 to '" .. name .. "' (table expected, got " .. got .. ")")
    end
    return run(...)
  end
end
local next_of = of_table("next", function(t, ...)
  local real = protected[t] or t
  if real == true then real = globals_in(t) end
  return next(real, ...)
end)
local pairs_of = of_table("pairs", function(t)
  if protected[t] then return next_of, t, nil end
  return next, t, nil
end)

local api = {
  redis = protect(redis), cjson = protect(new_cjson()), bit = protect(bit), struct = protect(struct),
  cmsgpack = protect(cmsgpack), coroutine = protect(coroutine),
  string = protect(string), table = protect(table), math = protect(math),
  assert = assert, error = error, getmetatable = getmetatable, setmetatable = guarding("setmetatable", setmetatable),
  ipairs = ipairs, pairs = pairs_of, next = next_of, rawequal = rawequal, rawget = rawget, rawset = guarding("rawset", rawset),
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
if engine == "valkey" then api.server = api.redis end

local function nonexistent(_, name)
  raise("Script attempted to access nonexistent global variable '" .. tostring(name) .. "'")
end

globals = setmetatable({}, { __index = nonexistent })
for name, value in pairs(api) do rawset(globals, name, value) end

-- Call a function that may fail; return how it ended, and its answer or the error with its line.
local function guarded(call, one, two)
  local line = -1
  local function explain(e)
    line = line_of_script()
    return type(e) == "table" and e or tostring(e)
  end
  local ok, answer = xpcall(function() return call(one, two) end, explain)
  if ok then return "ok", answer end
  if type(answer) == "table" then
    local text, at = answer.err, answer.line
    if type(text) == "number" then text = tostring(text) end
    return "table", type(text) == "string" and text or "ERR an error without a text", type(at) == "number" and at or line
  end
  return "error", tostring(answer), line
end

local function done(kind, ...) return request("DONE", kind, ...) end

-- Return the message that reports how a script or function has ended.
local function told(kind, answer, line)
  if kind ~= "ok" then return done(kind, answer, tostring(line)) end
  if type(answer) == "table" and type(rawget(answer, "err")) == "string" then return done("fail", rawget(answer, "err")) end
  local parts = {}
  put(parts, answer, 1)
  return done("ok", joined(parts))
end

-- --- functions ------------------------------------------------------------------------------------------------------

-- The code of a library runs once. It sees only what registers its functions.
local registered
local function register_function(...)
  if not registered then fail("ERR redis.register_function can only be called on FUNCTION LOAD command") end
  local name, callback = ...
  local description, flags
  if select("#", ...) == 1 then
    if type(name) ~= "table" then
      fail("ERR calling redis.register_function with a single argument is only applicable to Lua table (representing named arguments).")
    end
    local given = {}
    for key, item in next, name do
      if type(key) == "string" then key = lower(key) end
      if key ~= "function_name" and key ~= "callback" and key ~= "description" and key ~= "flags" then
        fail("ERR unknown argument given to redis.register_function")
      end
      if type(item) == "number" and (key == "function_name" or key == "description") then item = tostring(item) end
      given[key] = item
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
  if type(name) == "number" then name = tostring(name) end
  if type(name) ~= "string" then fail("ERR first argument to redis.register_function must be a string") end
  if type(callback) ~= "function" then fail("ERR second argument to redis.register_function must be a function") end
  if flags ~= nil and type(flags) ~= "table" then
    fail("ERR flags argument to redis.register_function must be a table representing function flags")
  end
  local list = {}
  for _, flag in next, flags or {} do list[#list + 1] = tostring(flag) end
  registered[#registered + 1] = { name = name, callback = callback, description = description, flags = list }
end

local loading = { redis = protect(setmetatable({
  register_function = register_function, log = redis.log,
  LOG_DEBUG = 0, LOG_VERBOSE = 1, LOG_NOTICE = 2, LOG_WARNING = 3,
  REDIS_VERSION = version, REDIS_VERSION_NUM = redis.REDIS_VERSION_NUM,
}, { __index = nonexistent })) }
if engine == "valkey" then loading.server = loading.redis end

local libraries = {}
local handlers = {}

function handlers.LOAD(id, text)
  local chunk, problem = compile(text, "@user_function")
  if not chunk then return done("compile", problem) end
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
  protected[here] = true
  setfenv(chunk, here)
  local begun = clock()
  sethook(function()
    if clock() - begun > LOAD_LIMIT then error("ERR FUNCTION LOAD timeout", 0) end
  end, "", 10000)
  local kind, answer, line = guarded(chunk)
  sethook()
  local made, functions, parts = registered, {}, { "ok" }
  registered = nil
  if kind ~= "ok" then return done(kind, answer, tostring(line)) end
  for i = 1, #made do
    local it = made[i]
    functions[it.name] = it.callback
    parts[4 * i - 2], parts[4 * i - 1] = it.name, it.description and "1" or "0"
    parts[4 * i], parts[4 * i + 1] = it.description or "", concat(it.flags, "\0")
  end
  libraries[id] = { functions = functions, surroundings = here }
  return done(unpack(parts))
end

function handlers.FORGET(id)
  libraries[id] = nil
  return ""
end

-- Call a function of a library. Text that it compiles runs in the environment of that library.
function handlers.FCALL(id, name, keys, argv)
  local library = libraries[id]
  local callback = library.functions[name]
  local info = getinfo(callback, "S")
  running, only_line = "user_function", info.linedefined == info.lastlinedefined and info.linedefined or -1
  surroundings = library.surroundings
  return told(guarded(callback, keys, argv))
end

-- --- scripts --------------------------------------------------------------------------------------------------------

function handlers.CHECK(text)
  local script, problem = compile(text, "@user_script")
  if not script then return done("compile", problem) end
  return done("ok")
end

function handlers.EVAL(text, keys, argv)
  local script, problem = compile(text, "@user_script")
  if not script then return done("compile", problem) end
  running, only_line = "user_script", sole_line(text)
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
  protected[surroundings] = true
  setfenv(script, surroundings)
  return told(guarded(script))
end

for _, name in ipairs({
  "python", "io", "os", "package", "require", "module", "debug", "dofile", "loadfile", "load", "loadstring",
  "newproxy", "getfenv", "setfenv", "print",
}) do _G[name] = nil end

-- Handle a message. Its first word is the version of the client's protocol.
return function(data)
  if collectgarbage("count") > MUCH then collectgarbage() end
  local words = read(data, 1)
  data = nil
  script_resp, client_resp = 2, tonumber(words[1])
  local ok, answer = pcall(handlers[words[2]], unpack(words, 3))
  surroundings = nil
  if ok then return answer end
  return done("error", tostring(answer), "-1")
end
