-- Keys that are no text. Where there are two, they stand in the array of the table, which has an order.
local ways = {
    zero = function() return {[0] = "z"} end,
    negative = function() return {[-1] = "m"} end,
    boolean = function() return {[true] = "t"} end,
    map_of_type = function() return setmetatable({"x", "y"}, {type = 2}) end,
    map_of_zero = function() return setmetatable({"x"}, {type = 0}) end,
    map_number = function(record) record.map[1] = "one" return record.map end,
    inner = function() return {a = {[0] = {[-5] = 1}}} end,
}

function keys(tag, time, record)
    return 2, time, ways[record.way](record)
end
