function with(tag, time, group, metadata, record)
    if record.way == "add" then
        metadata.k = "v"
    elseif record.way == "new" then
        metadata = {n = 1}
    elseif record.way == "none" then
        metadata = nil
    elseif record.way == "text" then
        metadata = "text"
    elseif record.way == "empty" then
        metadata = {}
    elseif record.way == "split" then
        return 2, time, metadata, {{a = 1}, {a = 2}}
    elseif record.way == "split_each" then
        return 2, time, {{m = 1}, {m = 2}}, {{a = 1}, {a = 2}}
    elseif record.way == "split_some" then
        return 2, time, {{m = 1}, "x"}, {{a = 1}, {a = 2}}
    elseif record.way == "drop" then
        return -1
    elseif record.way == "later" then
        return 1, time + 1, metadata, record
    elseif record.way == "group" then
        return 2, time, metadata, {group = type(group) .. tostring(next(group))}
    end
    return 2, time, metadata, record
end
