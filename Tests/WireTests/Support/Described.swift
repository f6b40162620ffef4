// Requests as strings: they borrow and can't escape, so tests compare what is said of them.

import SmallocWire

/// A request in words, such as `read a from 0 count 4 bytes`.
func describe(_ request: borrowing Request) -> String {
    switch request {
    case .hello: return "hello"
    case .ping: return "ping"
    case .alloc(let name, let type, let word, let length, let unit, let flags, let description):
        return "alloc '\(name.text)' type \(type) '\(word.text)' length \(length) \(unit)"
            + " flags \(flags.rawValue)"
            + (flags.contains(.described) ? " " + describe(description) : "")
    case .open(let name): return "open '\(name.text)'"
    case .await(let name, let flags, let milliseconds, let opensHandle):
        return "await '\(name.text)' flags \(flags.rawValue) for \(milliseconds)"
            + (opensHandle ? " with a handle" : "")
    case .close(let handle): return "close \(handle)"
    case .stat(let target): return "stat \(describe(target))"
    case .list(let prefix, let cursor, let count, let sorted):
        return "list '\(prefix.text)' cursor \(cursor) count \(count) sorted \(sorted)"
    case .read(let target, let start, let count, let unit):
        return "read \(describe(target)) from \(start) count \(count.map { "\($0)" } ?? "all")"
            + " \(unit)"
    case .readRanges(let target, let ranges):
        return "read \(describe(target)) ranges \(describe(ranges: ranges))"
    case .write(let target, let start, let payload, let unit):
        return "write \(describe(target)) from \(start) \(describe(payload)) \(unit)"
    case .writeRanges(let target, let ranges, let data):
        return "write \(describe(target)) ranges \(describe(ranges: ranges)) data '\(data.text)'"
    case .receive(let target, let start, let ranges, let dataSize):
        return "receive \(describe(target)) \(start) \(ranges.byteCount) \(dataSize)"
    case .fill(let target, let start, let count, let payload, let unit):
        return "fill \(describe(target)) from \(start) count \(count) \(describe(payload)) \(unit)"
    case .copy(let source, let sourceStart, let dest, let destStart, let count, let unit):
        return "copy \(describe(source)) from \(sourceStart) to \(describe(dest)) at \(destStart)"
            + " count \(count) \(unit)"
    case .dispose(let target): return "dispose \(describe(target))"
    case .truncate(let target, let length, let unit):
        return "truncate \(describe(target)) to \(length) \(unit)"
    case .rename(let target, let newName, let flags):
        return "rename \(describe(target)) to '\(newName.text)'"
            + (flags.contains(.replace) ? " replacing" : "")
    case .map(let target, let flags): return "map \(describe(target)) flags \(flags.rawValue)"
    case .unmap(let target): return "unmap \(describe(target))"
    case .freeze(let target): return "freeze \(describe(target))"
    case .atomic(let target, let start, let action, let values, let unit):
        return "atomic \(describe(target)) at \(start) \(action) \(describeNumbers(values)) \(unit)"
    case .wait(let target, let start, let value, let milliseconds, let unit):
        return "wait \(describe(target)) at \(start) while \(describeNumbers(value))"
            + " for \(milliseconds) \(unit)"
    case .notify(let target, let start, let count, let unit):
        return "notify \(describe(target)) at \(start) count \(count) \(unit)"
    case .watch(let prefix, let cursor, let milliseconds):
        return "watch '\(prefix.text)' from \(cursor) for \(milliseconds)"
    case .cancel(let cookie): return "cancel \(cookie)"
    case .stats: return "stats"
    case .clients(let cursor, let count): return "clients from \(cursor) count \(count)"
    case .slowlog(let count): return "slowlog \(count)"
    case .help(let verb): return "help '\(verb.text)'"
    case .quit: return "quit"
    }
}

private func describe(_ target: borrowing Reference) -> String {
    target.handle != 0 ? "#\(target.handle)" : "'\(target.name.text)'"
}

private func describe(_ payload: borrowing Payload) -> String {
    switch payload {
    case .bytes(let bytes): return "bytes '\(bytes.text)'"
    case .words(let words): return "words '\(words.text)'"
    }
}

/// Numbers of 8 bytes, one of 4, or words.
private func describeNumbers(_ payload: borrowing Payload) -> String {
    switch payload {
    case .bytes(let bytes):
        if bytes.byteCount == 4 { return "\(bytes.littleEndian32(at: 0))" }
        return (0..<bytes.byteCount / 8).map { "\(bytes.littleEndian64(at: $0 * 8))" }
            .joined(separator: ",")
    case .words(let words): return "words '\(words.text)'"
    }
}

private func describe(ranges: RawSpan) -> String {
    (0..<ranges.byteCount / 16).map {
        "\(ranges.littleEndian64(at: $0 * 16))+\(ranges.littleEndian64(at: $0 * 16 + 8))"
    }.joined(separator: ",")
}

/// Calls back with a span over bytes in memory of exactly their size.
func withSpan<Result>(_ bytes: [UInt8], _ body: (RawSpan) -> Result) -> Result {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
    defer { memory.deallocate() }
    memory.copyBytes(from: bytes)
    return body(RawSpan(_unsafeBytes: UnsafeRawBufferPointer(memory)))
}

/// Calls back with a span over the UTF-8 bytes of a text.
func withSpan<Result>(_ text: String, _ body: (RawSpan) -> Result) -> Result {
    withSpan(Array(text.utf8), body)
}

/// What an output holds.
func contents(_ output: borrowing Output) -> [UInt8] { Array(output.bytes) }
