// JSON as it is written here: members in the order given, into memory that may be refused.

import SmallocWire

/// A JSON document that is being written.
struct JSONText: ~Copyable {
    /// The text; `isLost` if there was no memory for it.
    private var output = Output(capacity: 4096)
    /// Nothing stands behind the last bracket.
    private var isFirst = true

    /// A number that every reader can hold: integers above 2^53 are not exact in JavaScript.
    private static let exactMax: UInt64 = 1 << 53

    /// The text, which goes on empty; nil: there was no memory for it.
    mutating func takeOutput() -> Output? {
        var taken = Output(capacity: 16)
        swap(&taken, &output)
        if taken.isLost { return nil }
        return taken
    }

    mutating func beginObject(_ key: String? = nil) { open(key, 0x7B) }
    mutating func endObject() { close(0x7D) }
    mutating func beginArray(_ key: String? = nil) { open(key, 0x5B) }
    mutating func endArray() { close(0x5D) }

    /// A whole number; above 2^53 as a string.
    mutating func member(_ key: String, _ value: UInt64) {
        begin(key)
        output.append(value > JSONText.exactMax ? "\"\(value)\"" : "\(value)")
    }

    /// A whole number, or null.
    mutating func member(_ key: String, _ value: UInt64?) {
        guard let value else { return null(key) }
        member(key, value)
    }

    /// A number that is finite.
    mutating func member(_ key: String, _ value: Double) {
        begin(key)
        output.append("\(value)")
    }

    mutating func member(_ key: String, _ value: Bool) {
        begin(key)
        output.append(value ? "true" : "false")
    }

    mutating func member(_ key: String, _ value: String) {
        var value = value
        value.withUTF8 { member(key, UnsafeRawBufferPointer($0)) }
    }

    /// A text; what is not printable ASCII comes out escaped, byte by byte.
    mutating func member(_ key: String, _ value: UnsafeRawBufferPointer) {
        begin(key)
        output.append(0x22)
        for byte in value {
            switch byte {
            case 0x22, 0x5C:
                output.append(0x5C)
                output.append(byte)
            // So that a document is harmless wherever it is put.
            case 0x3C, 0x3E, 0x26, 0..<0x20, 0x7F...0xFF:
                let digits = String(byte, radix: 16)
                output.append("\\u00" + (digits.utf8.count < 2 ? "0" : "") + digits)
            default: output.append(byte)
            }
        }
        output.append(0x22)
    }

    mutating func member(_ key: String, bytes: ArraySlice<UInt8>) {
        bytes.withUnsafeBytes { member(key, $0) }
    }

    mutating func null(_ key: String) {
        begin(key)
        output.append("null")
    }

    private mutating func begin(_ key: String) {
        comma()
        // All keys are words of the daemon's own.
        output.append("\"")
        output.append(key)
        output.append("\":")
    }

    private mutating func comma() {
        if !isFirst { output.append(0x2C) }
        isFirst = false
    }

    private mutating func open(_ key: String?, _ bracket: UInt8) {
        if let key { begin(key) } else { comma() }
        output.append(bracket)
        isFirst = true
    }

    private mutating func close(_ bracket: UInt8) {
        output.append(bracket)
        isFirst = false
    }
}
