-- Sets one key of every record.
function set_key(tag, timestamp, record)
    record["host"] = "web-1"
    return 2, timestamp, record
end
