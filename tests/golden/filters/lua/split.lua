-- Makes a record of each item, and of nothing nothing.
function split(tag, time, record)
    if record.own then
        return 1, time + 1, record.items
    end
    local parts = {}
    for number, item in ipairs(record.items) do
        parts[number] = {item = item, number = number}
    end
    return 2, time, parts
end
