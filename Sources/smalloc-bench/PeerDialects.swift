/// RESP, as Redis speaks it.
///
/// A write is SET and a read GET, its fastest ways to move a whole value; zeros are made with
/// SETRANGE of the last byte, its only way not to send them.
struct RESPDialect: Dialect {
    let cookieOffset: Int? = nil

    func ping(_ batch: inout BatchBuilder) {
        batch.request.bytes.append("*1\r\n$4\r\nPING\r\n")
        batch.reply.bytes.append("+PONG\r\n")
    }

    func create(_ target: Target, size: Int, _ batch: inout BatchBuilder) {
        batch.request.bytes.append("*4\r\n$8\r\nSETRANGE\r\n")
        name(target, &batch)
        var digits = 1
        var rest = size - 1
        while rest >= 10 {
            digits += 1
            rest /= 10
        }
        batch.request.bytes.append("$")
        batch.request.bytes.append(decimal: digits)
        batch.request.bytes.append("\r\n")
        batch.request.bytes.append(decimal: size - 1)
        batch.request.bytes.append("\r\n$1\r\n\0\r\n")
        batch.reply.bytes.append(":")
        batch.reply.bytes.append(decimal: size)
        batch.reply.bytes.append("\r\n")
    }

    func createFilled(_ target: Target, size: Int, _ batch: inout BatchBuilder) {
        write(target, size: size, &batch)
    }

    func read(_ target: Target, content: Pattern.Content, _ batch: inout BatchBuilder) {
        batch.request.bytes.append("*2\r\n$3\r\nGET\r\n")
        name(target, &batch)
        bulk(content, &batch.reply, batch.pattern)
    }

    func write(_ target: Target, size: Int, _ batch: inout BatchBuilder) {
        batch.request.bytes.append("*3\r\n$3\r\nSET\r\n")
        name(target, &batch)
        bulk(target.content(size), &batch.request, batch.pattern)
        batch.reply.bytes.append("+OK\r\n")
    }

    func dispose(_ target: Target, _ batch: inout BatchBuilder) {
        batch.request.bytes.append("*2\r\n$3\r\nDEL\r\n")
        name(target, &batch)
        batch.reply.bytes.append(":1\r\n")
    }

    func copy(
        _ source: Target, to destination: Target, size: Int, _ batch: inout BatchBuilder
    ) -> Bool {
        batch.request.bytes.append("*4\r\n$4\r\nCOPY\r\n")
        name(source, &batch)
        name(destination, &batch)
        batch.request.bytes.append("$7\r\nREPLACE\r\n")
        batch.reply.bytes.append(":1\r\n")
        return true
    }

    private func name(_ target: Target, _ batch: inout BatchBuilder) {
        batch.request.bytes.append("$10\r\n")
        batch.request.bytes.append(nameOf: target)
        batch.request.bytes.append("\r\n")
    }

    private func bulk(
        _ content: Pattern.Content, _ side: inout BatchBuilder.Side, _ pattern: Pattern
    ) {
        side.bytes.append("$")
        side.bytes.append(decimal: content.size)
        side.bytes.append("\r\n")
        side.append(content, of: pattern)
        side.bytes.append("\r\n")
    }
}

/// Memcached's meta commands, the leanest of its protocols.
///
/// It has no copy and no way to make a value without sending it.
struct MemcachedDialect: Dialect {
    let cookieOffset: Int? = nil

    func ping(_ batch: inout BatchBuilder) {
        // Not `mn`, which makes it send what it has after every one of them, nor `version`, whose
        // answer depends on it.
        batch.request.bytes.append("verbosity 0\r\n")
        batch.reply.bytes.append("OK\r\n")
    }

    func create(_ target: Target, size: Int, _ batch: inout BatchBuilder) {
        set(target, .zeros(size), &batch)
    }

    func createFilled(_ target: Target, size: Int, _ batch: inout BatchBuilder) {
        write(target, size: size, &batch)
    }

    func read(_ target: Target, content: Pattern.Content, _ batch: inout BatchBuilder) {
        batch.request.bytes.append("mg ")
        batch.request.bytes.append(nameOf: target)
        batch.request.bytes.append(" v\r\n")
        batch.reply.bytes.append("VA ")
        batch.reply.bytes.append(decimal: content.size)
        batch.reply.bytes.append("\r\n")
        batch.reply.append(content, of: batch.pattern)
        batch.reply.bytes.append("\r\n")
    }

    func write(_ target: Target, size: Int, _ batch: inout BatchBuilder) {
        set(target, target.content(size), &batch)
    }

    func dispose(_ target: Target, _ batch: inout BatchBuilder) {
        batch.request.bytes.append("md ")
        batch.request.bytes.append(nameOf: target)
        batch.request.bytes.append("\r\n")
        batch.reply.bytes.append("HD\r\n")
    }

    func copy(
        _ source: Target, to destination: Target, size: Int, _ batch: inout BatchBuilder
    ) -> Bool { false }

    private func set(
        _ target: Target, _ content: Pattern.Content, _ batch: inout BatchBuilder
    ) {
        batch.request.bytes.append("ms ")
        batch.request.bytes.append(nameOf: target)
        batch.request.bytes.append(" ")
        batch.request.bytes.append(decimal: content.size)
        batch.request.bytes.append("\r\n")
        batch.request.append(content, of: batch.pattern)
        batch.request.bytes.append("\r\n")
        batch.reply.bytes.append("HD\r\n")
    }
}
