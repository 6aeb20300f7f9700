-- Tables that the script makes, by name.
local function metatable(value, kind)
    return setmetatable(value, {type = kind})
end
local function added(value, key, item)
    value[key] = item
    return value
end

local built = {
    empty = function() return {} end,
    array = function() return {1, 2, 3} end,
    sparse = function() return {[3] = "x"} end,
    mixed = function() return {1, 2, k = "v"} end,
    holes = function() return {1, nil, 3} end,
    array_of_type = function() return metatable({}, 1) end,
    type_of_text = function() return metatable({1}, "x") end,
    type_negative = function() return metatable({1}, -1) end,
    metamethods = function() return setmetatable({a = 1}, {__index = error, __len = error, __pairs = error}) end,
    array_more = function(record) return added(record.list, 3, "more") end,
    array_key = function(record) return added(record.list, "key", "lost") end,
    array_shorter = function(record) return added(record.list, 2, nil) end,
    numbers = function() return {2^53, 2^63, -2^63, 2^62, -0.0, 0.1, 3.0} end,
}

function build(tag, time, record)
    record.built = built[record.name](record)
    return 2, time, record
end
