// Shapes and metadata as they stand on the command line, and as they are shown.

import ArgumentParser
import Smalloc

/// Dimensions with an `x` between them, as in `512x256`, or `scalar`.
struct ShapeArgument: ExpressibleByArgument {
    /// Elements of each.
    let shape: [Int]

    init?(argument: String) {
        if argument.lowercased() == "scalar" {
            shape = []
            return
        }
        let parts = argument.lowercased().split(separator: "x", omittingEmptySubsequences: false)
        var shape: [Int] = []
        for part in parts {
            guard let count = ElementCount(argument: String(part)), count.value >= 0,
                part.first != "-"
            else { return nil }
            shape.append(count.value)
        }
        self.shape = shape
    }

    /// Elements of all dimensions together; the largest number where there are more.
    var length: Int {
        shape.contains(0) ? 0 : shape.reduce(1) { $0.multipliedClamped(by: $1) }
    }
}

/// `hex:…`, `base64:…` or `text:…` as bytes, and any other word as it is.
struct MetadataArgument: ExpressibleByArgument {
    /// What the daemon keeps.
    let bytes: [UInt8]

    init?(argument: String) {
        let forms = ["hex:", "base64:", "text:"]
        guard forms.contains(where: { argument.lowercased().hasPrefix($0) }) else {
            bytes = Array(argument.utf8)
            return
        }
        guard let bytes = try? elementBytes([argument], .uint8) else { return nil }
        self.bytes = bytes
    }
}

/// A length, or what stands in its place where a shape says it: a type.
struct LengthArgument: ExpressibleByArgument {
    /// As typed.
    let word: String
    /// Nil: it is no number.
    let count: ElementCount?

    init?(argument: String) {
        word = argument
        count = ElementCount(argument: argument)
    }
}

/// A shape as text mode has it.
func shapeText(_ shape: [Int]) -> String {
    shape.isEmpty ? "scalar" : shape.map { String($0) }.joined(separator: "x")
}

/// What is said of an allocation by bits, in the words and the order of text mode.
func flagWords(_ stat: Smalloc.Stat) -> [String] {
    [
        (stat.isShareable, "shareable"), (stat.lease != nil, "leased"),
        (stat.isDescribed, "described"),
        (stat.isFrozen, "frozen"), (stat.isShared, "shared"),
    ].filter(\.0).map(\.1)
}

/// Metadata in a form that `--meta` takes: text where it is printable ASCII.
func metadataText(_ bytes: [UInt8]) -> String {
    let isText = bytes.allSatisfy { (0x20...0x7E).contains($0) }
    return isText ? "text:" + String(decoding: bytes, as: UTF8.self) : "base64:" + base64Text(bytes)
}

/// Bytes in padded base64.
func base64Text(_ bytes: [UInt8]) -> String {
    let digits = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    var text: [UInt8] = []
    for first in stride(from: 0, to: bytes.count, by: 3) {
        let group = bytes[first..<min(first + 3, bytes.count)]
        let bits = group.reduce(0) { $0 << 8 | UInt32($1) } << (8 * UInt32(3 - group.count))
        for place in 0..<4 {
            let digit = digits[Int(bits >> UInt32(18 - 6 * place) & 63)]
            text.append(place <= group.count ? digit : UInt8(ascii: "="))
        }
    }
    return String(decoding: text, as: UTF8.self)
}
