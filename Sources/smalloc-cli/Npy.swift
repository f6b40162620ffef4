// Files of numpy's: a header with type and shape, then the elements. The format is described in
// numpy's manual, under numpy.lib.format; what stands in a file is not trusted.

import Smalloc

/// What a `.npy` file says of its elements.
struct NpyHeader {
    /// What becomes of the bytes behind it.
    let form: UploadedForm

    /// Bytes of a header's text that are read at the most; arrays of numbers need some hundred.
    private static let textSizeMax = 65_536

    /// Reads the header of versions 1 to 3; the file then stands at the first element.
    ///
    /// - Parameters:
    ///   - file: Stands at the beginning of the header.
    ///   - asked: The type that the user wants, which only elements without one of their own take.
    /// - Throws: `Failure` with the path: `.invalidArgument` for what is no such file, or holds
    ///   what no allocation can.
    init(from file: InputFile, asked: ElementType?) throws(Failure) {
        let head = try NpyHeader.bytes(8, of: file)
        guard head.starts(with: [0x93] + Array("NUMPY".utf8)) else {
            throw NpyHeader.refusal(file, "is no file of numpy's; --format raw takes it as bytes")
        }
        guard (1...3).contains(head[6]) else {
            throw NpyHeader.refusal(file, "has version \(head[6]).\(head[7]) of numpy's format")
        }
        let digits = try NpyHeader.bytes(head[6] == 1 ? 2 : 4, of: file)
        let size = digits.reversed().reduce(0) { $0 << 8 | Int($1) }
        guard size <= NpyHeader.textSizeMax else {
            throw NpyHeader.refusal(file, "has a header of \(size) bytes, over 65536")
        }
        let text = try NpyHeader.bytes(size, of: file)
        var parser = NpyText(text)
        do throws(NpyText.Malformed) {
            let facts = try parser.parse()
            form = try NpyHeader.form(facts, asked)
        } catch {
            throw NpyHeader.refusal(file, error.reason)
        }
    }

    /// The header of a file that numpy reads.
    ///
    /// - Returns: A multiple of 64 bytes.
    static func bytes(_ type: ElementType, _ shape: [Int]) -> [UInt8] {
        let dimensions = shape.map { String($0) }.joined(separator: ", ")
        var text =
            "{'descr': '\(word(type))', 'fortran_order': False, "
            + "'shape': (\(dimensions)\(shape.count == 1 ? "," : "")), }"
        text += String(repeating: " ", count: 63 - (10 + text.utf8.count) % 64) + "\n"
        let size = text.utf8.count
        return [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(size & 255), UInt8(size >> 8)]
            + Array(text.utf8)
    }

    private static func bytes(_ count: Int, of file: InputFile) throws(Failure) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        let read = bytes.withUnsafeMutableBytes { buffer in
            Result { () throws(Failure) in try file.read(into: buffer) }
        }
        guard try read.get() == count else {
            throw refusal(file, "ends within the header of numpy's format")
        }
        return bytes
    }

    private static func refusal(_ file: InputFile, _ reason: String) -> Failure {
        Failure(file.path, SmallocError.invalidArgument("it \(reason)"))
    }

    private static func form(
        _ facts: NpyText.Facts, _ asked: ElementType?
    ) throws(NpyText.Malformed) -> UploadedForm {
        let order = facts.type.first.flatMap { "<>=|".contains($0) ? $0 : nil }
        let kind = facts.type.dropFirst(order == nil ? 0 : 1)
        let type: ElementType
        if let known = types.first(where: { $0.word == kind }) {
            guard asked == nil else {
                throw NpyText.Malformed(
                    "says its type itself, \(known.type.name): leave out --type")
            }
            type = known.type
        } else if kind.first == "V", let size = Int(kind.dropFirst()) {
            // What numpy has no type for, as bfloat16, is stored as bytes.
            guard let asked, asked.size == size else {
                throw NpyText.Malformed(
                    "has elements of \(size) bytes that numpy has no type for: give --type")
            }
            type = asked
        } else {
            throw NpyText.Malformed(
                "has elements of numpy's type \(facts.type), and no element type is like it")
        }
        var (size, isOver) = (type.size, false)
        // One dimension of 0 is enough for none; the others count nevertheless.
        let isEmpty = facts.shape.contains(0)
        for count in facts.shape where !isEmpty && !isOver {
            (size, isOver) = size.multipliedReportingOverflow(by: count)
        }
        guard !isOver else { throw NpyText.Malformed("says a shape of more than 2^63 bytes") }
        guard !facts.isFortran || facts.shape.count(where: { $0 > 1 }) < 2 || isEmpty else {
            throw NpyText.Malformed(
                "is in Fortran order, and allocations are in C order: "
                    + "save numpy.ascontiguousarray(a)")
        }
        let parts = type == .complexFloat || type == .complexDouble ? 2 : 1
        return UploadedForm(
            type: type, shape: facts.shape, size: isEmpty ? 0 : size,
            swapped: order == ">" ? type.size / parts : 1)
    }

    private static let types: [(word: String, type: ElementType)] = [
        ("i1", .int8), ("u1", .uint8), ("i2", .int16), ("u2", .uint16), ("i4", .int32),
        ("u4", .uint32), ("i8", .int64), ("u8", .uint64), ("f2", .float16), ("f4", .float),
        ("f8", .double), ("c8", .complexFloat), ("c16", .complexDouble), ("b1", .bool),
        ("?", .bool),
    ]

    /// A type in numpy's words, in the machine's byte order.
    private static func word(_ type: ElementType) -> String {
        let name =
            type == .uint8Clamped ? "u1" : types.first { $0.type == type }?.word ?? "V\(type.size)"
        return (type.size == 1 ? "|" : "<") + name
    }
}

/// The text of a header: a dictionary as Python writes it, of which only three keys are known.
struct NpyText {
    /// What is wrong, as a sentence whose subject is the file.
    struct Malformed: Error {
        let reason: String
        init(_ reason: String) { self.reason = reason }
    }

    /// What it says.
    struct Facts: Equatable {
        var type = ""
        var isFortran = false
        var shape: [Int] = []
    }

    private var rest: ArraySlice<UInt8>
    private static let malformed = Malformed("has a header that is none of numpy's format")

    init(_ bytes: [UInt8]) { rest = bytes[...] }

    /// Reads it, to its last byte.
    mutating func parse() throws(Malformed) -> Facts {
        var facts = Facts()
        var missing: Set<String> = ["descr", "fortran_order", "shape"]
        try expect("{")
        while !take("}") {
            let key = try string()
            guard missing.remove(key) != nil else { throw NpyText.malformed }
            try expect(":")
            switch key {
            case "descr":
                if rest.first == UInt8(ascii: "[") || rest.first == UInt8(ascii: "(") {
                    throw Malformed("has elements of several fields, which no element type is like")
                }
                facts.type = try string()
            case "shape": facts.shape = try shape()
            default:
                if take("True") {
                    facts.isFortran = true
                } else {
                    try expect("False")
                }
            }
            if !take(",") {
                try expect("}")
                break
            }
        }
        guard missing.isEmpty, rest.isEmpty else { throw NpyText.malformed }
        return facts
    }

    private mutating func shape() throws(Malformed) -> [Int] {
        var shape: [Int] = []
        try expect("(")
        while !take(")") {
            shape.append(try number())
            guard shape.count <= 32 else { throw NpyText.malformed }
            if !take(",") {
                try expect(")")
                break
            }
        }
        guard shape.count <= 8 else {
            throw Malformed("has \(shape.count) dimensions, and allocations have up to 8")
        }
        return shape
    }

    private mutating func number() throws(Malformed) -> Int {
        let digits = rest.prefix { (0x30...0x39).contains($0) }
        guard let number = Int(String(decoding: digits, as: UTF8.self)) else {
            throw NpyText.malformed
        }
        rest = rest.dropFirst(digits.count)
        // Python 2 wrote long integers so.
        _ = take("L")
        skipSpaces()
        return number
    }

    private mutating func string() throws(Malformed) -> String {
        guard let quote = rest.first, quote == UInt8(ascii: "'") || quote == UInt8(ascii: "\"")
        else { throw NpyText.malformed }
        let text = rest.dropFirst().prefix { $0 != quote }
        guard text.count < 64, text.allSatisfy({ (0x20...0x7E).contains($0) && $0 != 0x5C }),
            rest.count >= text.count + 2
        else { throw NpyText.malformed }
        rest = rest.dropFirst(text.count + 2)
        skipSpaces()
        return String(decoding: text, as: UTF8.self)
    }

    /// Takes a word, and the spaces behind it.
    private mutating func take(_ word: String) -> Bool {
        skipSpaces()
        guard rest.starts(with: word.utf8) else { return false }
        rest = rest.dropFirst(word.utf8.count)
        skipSpaces()
        return true
    }

    private mutating func expect(_ word: String) throws(Malformed) {
        guard take(word) else { throw NpyText.malformed }
    }

    private mutating func skipSpaces() {
        rest = rest.drop { $0 == 0x20 || (0x09...0x0D).contains($0) }
    }
}
