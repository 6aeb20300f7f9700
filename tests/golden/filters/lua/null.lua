function look(tag, time, record)
    record.is_null = record.a == flb_null
    record.made = flb_null
    record.kind = type(record.a)
    return 2, time, record
end
