-- The modules `struct` and `cmsgpack` of scripts: numbers and values as bytes. `raise` ends a script with an error.
local raise = ...

local error, type, tonumber, tostring, select, next, unpack = error, type, tonumber, tostring, select, next, unpack
local char, byte, sub, find = string.char, string.byte, string.sub, string.find
local rep, reverse = string.rep, string.reverse
local concat, floor, frexp, ldexp = table.concat, math.floor, math.frexp, math.ldexp

local MOST = 4096 -- values that one call may return

local function checked(name, at, kind, value, is_given)
  local accepted = type(value) == kind or (kind == "number" and type(value) == "string" and tonumber(value))
  if accepted or (kind == "string" and type(value) == "number") then
    return kind == "number" and tonumber(value) or tostring(value)
  end
  local got = is_given and type(value) or "no value"
  raise("bad argument #" .. at .. " to '" .. name .. "' (" .. kind .. " expected, got " .. got .. ")")
end

local function refuse(name, at, text) raise("bad argument #" .. at .. " to '" .. name .. "' (" .. text .. ")") end

-- --- numbers --------------------------------------------------------------------------------------------------------

-- Return an integer in two's complement, the highest byte first. What does not fit is lost.
local function integer_bytes(number, size)
  local bytes, left = {}, number < 0 and -number or number
  left = floor(left)
  local carry = number < 0 and 1 or 0
  for at = size, 1, -1 do
    local one = at > size - 8 and left % 256 or 0
    left = floor(left / 256)
    if number < 0 then
      one = at > size - 8 and 255 - one + carry or 0 -- C shifts an unsigned number of 64 bits
      carry = one > 255 and 1 or 0
      one = one % 256
    end
    bytes[at] = char(one)
  end
  return concat(bytes)
end

-- Return the integer in some bytes, the highest first: its lowest 64 bits.
local function integer_in(text, is_signed)
  if #text > 8 then text = sub(text, -8) end
  local first = byte(text, 1)
  local is_negative, number = is_signed and first >= 128, 0
  for at = 1, #text do
    local one = byte(text, at)
    number = number * 256 + (is_negative and 255 - one or one)
  end
  return is_negative and -number - 1 or number
end

-- Round to the nearest integer, of two to the even one.
local function rounded(number)
  local whole = floor(number)
  local rest = number - whole
  if rest > 0.5 or (rest == 0.5 and whole % 2 == 1) then whole = whole + 1 end
  return whole
end

-- Return a number in IEEE 754, the highest byte first.
local function real_bytes(number, size)
  local width = size == 4 and 23 or 52
  local bias = size == 4 and 127 or 1023
  local sign = (number < 0 or (number == 0 and 1 / number < 0)) and 1 or 0
  local exponent, fraction = 0, 0
  if number ~= number then
    sign, exponent, fraction = tostring(number) == "-nan" and 1 or 0, 2 * bias + 1, 2 ^ (width - 1)
  elseif number == 1 / 0 or number == -1 / 0 then
    exponent = 2 * bias + 1
  elseif number ~= 0 then
    local part, power = frexp(sign == 1 and -number or number)
    exponent = power + bias - 1
    if exponent > 0 then
      fraction = rounded(ldexp(part * 2 - 1, width))
    else
      exponent, fraction = 0, rounded(ldexp(part, width + power + bias - 1))
    end
    if fraction >= 2 ^ width then exponent, fraction = exponent + 1, fraction - 2 ^ width end
    if exponent > 2 * bias then exponent, fraction = 2 * bias + 1, 0 end
  end
  local bytes = {}
  for at = size, 2, -1 do
    bytes[at] = fraction % 256
    fraction = floor(fraction / 256)
  end
  local shared = size == 4 and 128 or 16 -- what of the exponent is in the second byte
  bytes[2] = bytes[2] + exponent % (256 / shared) * shared
  bytes[1] = sign * 128 + floor(exponent / (256 / shared))
  return char(unpack(bytes))
end

local function real_in(text)
  local size = #text
  local width = size == 4 and 23 or 52
  local bias = size == 4 and 127 or 1023
  local shared = size == 4 and 128 or 16
  local first, second = byte(text, 1, 2)
  local exponent = first % 128 * (256 / shared) + floor(second / shared)
  local fraction = second % shared
  for at = 3, size do fraction = fraction * 256 + byte(text, at) end
  local sign = first >= 128 and -1 or 1
  if exponent == 2 * bias + 1 then
    if fraction == 0 then return sign / 0 end
    return sign < 0 and 0 / 0 or -(0 / 0)
  end
  if exponent == 0 then return sign * ldexp(fraction, 1 - bias - width) end
  return sign * ldexp(fraction + 2 ^ width, exponent - bias - width)
end

local function is_float(number)
  return number == number and number == real_in(real_bytes(number, 4))
end

-- --- struct ---------------------------------------------------------------------------------------------------------

local SIZES = { b = 1, B = 1, h = 2, H = 2, l = 8, L = 8, T = 8, f = 4, d = 8, x = 1, s = 0 }
local INTEGERS = "^[bBhHlLTiI]$"
local LARGEST, ALIGNED = 32, 8 -- bytes

-- Return the number in a format at a position, and the position after it.
local function count_in(format, at, otherwise)
  local first, last = find(format, "^%d+", at)
  if not first then return otherwise, at end
  local number = tonumber(sub(format, first, last))
  if number > 2147483647 then raise("integral size overflow") end
  return number, last + 1
end

-- Return an iterator of a format: of each option the letter, the size, and the padding before it.
-- Letters and digits that match `ignored` are let through.
local function options_of(name, format, state, ignored)
  local at = 1
  state.is_little, state.align, state.total = true, 1, 0
  return function()
    if at > #format then return nil end
    local option, size = sub(format, at, at), nil
    at = at + 1
    if option == "i" or option == "I" then
      size, at = count_in(format, at, 4)
      if size > LARGEST then raise("integral size " .. size .. " is larger than limit of " .. LARGEST) end
    elseif option == "c" then
      size, at = count_in(format, at, 1)
    else
      size = SIZES[option] or 0
    end
    local padding = 0
    if size > 0 and option ~= "c" then
      local unit = size > state.align and state.align or size
      if unit > 1 then padding = -state.total % unit end
    end
    if option == ">" then
      state.is_little = false
    elseif option == "<" then
      state.is_little = true
    elseif option == "!" then
      state.align, at = count_in(format, at, ALIGNED)
      local power = state.align
      while power > 1 and power % 2 == 0 do power = power / 2 end
      if power ~= 1 then raise("alignment " .. state.align .. " is not a power of 2") end
    elseif option ~= " " and not SIZES[option] and not find(option, "[iIc]") and not find(option, ignored) then
      refuse(name, 1, "invalid format option '" .. option .. "'")
    end
    return option, size, padding
  end
end

local function ordered(state, text) return state.is_little and reverse(text) or text end

local struct = {}

function struct.pack(...)
  local format = checked("pack", 1, "string", (...), select("#", ...) > 0)
  local parts, state = {}, {}
  local at = 2
  for option, size, padding in options_of("pack", format, state, "^$") do
    state.total = state.total + padding
    parts[#parts + 1] = rep("\0", padding)
    if find(option, INTEGERS) then
      parts[#parts + 1] = ordered(state, integer_bytes(checked("pack", at, "number", (select(at, ...)), true), size))
      at = at + 1
    elseif option == "x" then
      parts[#parts + 1] = "\0"
    elseif option == "f" or option == "d" then
      parts[#parts + 1] = ordered(state, real_bytes(checked("pack", at, "number", (select(at, ...)), true), size))
      at = at + 1
    elseif option == "c" or option == "s" then
      local text = checked("pack", at, "string", (select(at, ...)), true)
      at = at + 1
      if size == 0 then size = #text end
      if #text < size then refuse("pack", at, "string too short") end
      parts[#parts + 1] = sub(text, 1, size)
      if option == "s" then
        parts[#parts + 1] = "\0"
        size = size + 1
      end
    end
    state.total = state.total + size
  end
  return concat(parts)
end

function struct.unpack(...)
  local format = checked("unpack", 1, "string", (...), select("#", ...) > 0)
  local text = checked("unpack", 2, "string", (select(2, ...)), select("#", ...) > 1)
  local at = 1
  if select(3, ...) ~= nil then at = checked("unpack", 3, "number", (select(3, ...)), true) end
  at = at < 0 and -floor(-at) or floor(at)
  if at < 1 then refuse("unpack", 3, "offset must be 1 or greater") end
  local found, count, state = {}, 0, {}
  local iterate = options_of("unpack", format, state, "^$")
  state.total = at - 1
  local function add(value)
    count = count + 1
    if count > MOST then raise("stack overflow (too many results)") end
    found[count] = value
  end
  for option, size, padding in iterate do
    local from = state.total + padding
    if size > #text or from > #text - size then refuse("unpack", 2, "data string too short") end
    if find(option, INTEGERS) then
      add(size == 0 and 0 or integer_in(ordered(state, sub(text, from + 1, from + size)), find(option, "%l")))
    elseif option == "f" or option == "d" then
      add(real_in(ordered(state, sub(text, from + 1, from + size))))
    elseif option == "c" then
      if size == 0 then
        local last = found[count]
        if count == 0 or not tonumber(last) then raise("format 'c0' needs a previous size") end
        size = floor(tonumber(last))
        found[count], count = nil, count - 1
        if size < 0 or size > #text or from > #text - size then refuse("unpack", 2, "data string too short") end
      end
      add(sub(text, from + 1, from + size))
    elseif option == "s" then
      local stop = find(text, "\0", from + 1, true)
      if not stop then raise("unfinished string in data") end
      add(sub(text, from + 1, stop - 1))
      size = stop - from
    end
    state.total = from + size
  end
  found[count + 1] = state.total + 1
  return unpack(found, 1, count + 1)
end

function struct.size(...)
  local format = checked("size", 1, "string", (...), select("#", ...) > 0)
  local state = {}
  for option, size, padding in options_of("size", format, state, "%w") do
    if option == "s" then refuse("size", 1, "option 's' has no fixed size") end
    if option == "c" and size == 0 then refuse("size", 1, "option 'c0' has no fixed size") end
    state.total = state.total + padding + size
  end
  return state.total
end

-- --- cmsgpack -------------------------------------------------------------------------------------------------------

local DEEPEST = 16

local function sized(number, size) return integer_bytes(number, size) end

local function packed_number(number)
  local is_whole = number == floor(number) and number >= -2 ^ 63 and number < 2 ^ 63
  if not is_whole then
    return is_float(number) and "\202" .. real_bytes(number, 4) or "\203" .. real_bytes(number, 8)
  end
  if number >= 0 then
    if number < 128 then return char(number) end
    if number < 256 then return "\204" .. char(number) end
    if number < 65536 then return "\205" .. sized(number, 2) end
    if number < 2 ^ 32 then return "\206" .. sized(number, 4) end
    return "\207" .. sized(number, 8)
  end
  if number >= -32 then return char(256 + number) end
  if number >= -128 then return "\208" .. char(256 + number) end
  if number >= -32768 then return "\209" .. sized(number, 2) end
  if number >= -2 ^ 31 then return "\210" .. sized(number, 4) end
  return "\211" .. sized(number, 8)
end

local function packed_text(text)
  local size = #text
  if size < 32 then return char(160 + size) .. text end
  if size < 256 then return "\217" .. char(size) .. text end
  if size < 65536 then return "\218" .. sized(size, 2) .. text end
  return "\219" .. sized(size, 4) .. text
end

-- Return the length of a table that is an array, or nil.
local function length_of(value)
  local count, highest = 0, 0
  for key in next, value do
    if type(key) ~= "number" or key <= 0 or key ~= floor(key) then return nil end
    count = count + 1
    if key > highest then highest = key end
  end
  return count == highest and count or nil
end

local function pack(value, parts, depth)
  local kind = type(value)
  if kind == "string" then
    parts[#parts + 1] = packed_text(value)
  elseif kind == "number" then
    parts[#parts + 1] = packed_number(value)
  elseif kind == "boolean" then
    parts[#parts + 1] = value and "\195" or "\194"
  elseif kind ~= "table" or depth == DEEPEST then
    parts[#parts + 1] = "\192"
  else
    local length = length_of(value)
    if length then
      parts[#parts + 1] = length < 16 and char(144 + length) or length < 65536 and "\220" .. sized(length, 2)
        or "\221" .. sized(length, 4)
      for at = 1, length do pack(value[at], parts, depth + 1) end
      return
    end
    local count = 0
    for _ in next, value do count = count + 1 end
    parts[#parts + 1] = count < 16 and char(128 + count) or count < 65536 and "\222" .. sized(count, 2)
      or "\223" .. sized(count, 4)
    for key, item in next, value do
      pack(key, parts, depth + 1)
      pack(item, parts, depth + 1)
    end
  end
end

local cmsgpack = {
  _NAME = "cmsgpack", _VERSION = "lua-cmsgpack 0.4.0", _DESCRIPTION = "MessagePack C implementation for Lua",
  _COPYRIGHT = "Copyright (C) 2012, Salvatore Sanfilippo",
}

function cmsgpack.pack(...)
  if select("#", ...) == 0 then refuse("pack", 0, "MessagePack pack needs input.") end
  local parts = {}
  for at = 1, select("#", ...) do pack((select(at, ...)), parts, 0) end
  return concat(parts)
end

local INTEGER_FORMS = {
  [204] = { 1, false }, [205] = { 2, false }, [206] = { 4, false }, [207] = { 8, true },
  [208] = { 1, true }, [209] = { 2, true }, [210] = { 4, true }, [211] = { 8, true },
}
local TEXT_FORMS = { [217] = 1, [218] = 2, [219] = 4 }
local ARRAY_FORMS, MAP_FORMS = { [220] = 2, [221] = 4 }, { [222] = 2, [223] = 4 }

local function taken(text, at, size)
  if at + size - 1 > #text then raise("Missing bytes in input.") end
  return sub(text, at, at + size - 1), at + size
end

local decode
local function decode_array(text, at, count)
  local made = {}
  for number = 1, count do made[number], at = decode(text, at) end
  return made, at
end

local function decode_map(text, at, count)
  local made = {}
  for _ = 1, count do
    local key, value
    key, at = decode(text, at)
    value, at = decode(text, at)
    if key == nil then error("table index is nil", 0) end
    if key ~= key then error("table index is NaN", 0) end
    made[key] = value
  end
  return made, at
end

function decode(text, at)
  local form, head = byte(text, at), nil
  if not form then raise("Missing bytes in input.") end
  at = at + 1
  if form < 128 then return form, at end
  if form >= 224 then return form - 256, at end
  if form < 144 then return decode_map(text, at, form - 128) end
  if form < 160 then return decode_array(text, at, form - 144) end
  if form < 192 then return taken(text, at, form - 160) end
  if form == 192 then return nil, at end
  if form == 194 or form == 195 then return form == 195, at end
  if form == 202 or form == 203 then
    head, at = taken(text, at, form == 202 and 4 or 8)
    return real_in(head), at
  end
  local integer = INTEGER_FORMS[form]
  if integer then
    head, at = taken(text, at, integer[1])
    return integer_in(head, integer[2]), at
  end
  local size = TEXT_FORMS[form] or ARRAY_FORMS[form] or MAP_FORMS[form]
  if not size then raise("Bad data format in input.") end
  head, at = taken(text, at, size)
  local count = integer_in(head, false)
  if TEXT_FORMS[form] then return taken(text, at, count) end
  return (ARRAY_FORMS[form] and decode_array or decode_map)(text, at, count)
end

local function unpacked(text, limit, offset)
  if offset < 0 or limit < 0 then
    raise("Invalid request to unpack with offset of " .. offset .. " and limit of " .. #text .. ".")
  end
  if offset > #text then
    raise("Start offset " .. offset .. " greater than input length " .. #text .. ".")
  end
  local is_all = limit == 0 and offset == 0
  local found, count, at = {}, 0, offset + 1
  while at <= #text and (is_all or count < limit) do
    count = count + 1
    if count > MOST then raise("stack overflow (too many results)") end
    found[count], at = decode(text, at)
  end
  if is_all then return unpack(found, 1, count) end
  return at > #text and -1 or at - 1, unpack(found, 1, count)
end

local function whole(name, at, value, is_given)
  local number = checked(name, at, "number", value, is_given)
  return number < 0 and -floor(-number) or floor(number)
end

function cmsgpack.unpack(...) return unpacked(checked("unpack", 1, "string", (...), select("#", ...) > 0), 0, 0) end

function cmsgpack.unpack_one(...)
  local text, offset = ...
  return unpacked(checked("unpack_one", 1, "string", text, select("#", ...) > 0), 1,
    offset == nil and 0 or whole("unpack_one", 2, offset, true))
end

function cmsgpack.unpack_limit(...)
  local text, limit, offset = ...
  text = checked("unpack_limit", 1, "string", text, select("#", ...) > 0)
  return unpacked(text, whole("unpack_limit", 2, limit, select("#", ...) > 1),
    offset == nil and 0 or whole("unpack_limit", 3, offset, true))
end

return struct, cmsgpack
