import SmallocWire
import Testing
import TestSupport

@Suite("Statuses and errors", .timed)
struct StatusTests {
    @Test("every failure has bit 15, and bit 14 if the daemon closes after it")
    func bits() {
        let closing: Set<String> = [
            "malformedFrame", "helloRequired", "connectionLimit", "idleTimeout", "requestTimeout",
            "shuttingDown", "notSmalloc", "incompleteLine",
        ]
        for (status, name, _) in Status.table where status != .ok {
            #expect(status.rawValue & 0x8000 != 0)
            #expect(status.closes == closing.contains(name))
            #expect(status.name == name)
        }
        #expect(!Status.ok.closes && Status.ok.name == "ok")
        #expect(!Status(rawValue: 0x4000).closes)
    }

    @Test("numbers and names are there once")
    func unique() {
        #expect(Set(Status.table.map(\.status)).count == Status.table.count)
        #expect(Set(Status.table.map(\.name)).count == Status.table.count)
    }

    @Test("a status from a newer daemon has a name all the same")
    func unknown() {
        #expect(Status(rawValue: 0x8123).name == "status0x8123")
        #expect(Status(rawValue: 0xC123).closes)
    }

    static let texts: [(SmallocError, String)] = [
        (.noData, "Error: object has no external array data"),
        (.noDataToTruncate, "TypeError: object has no external array data"),
        (.noDataToDispose, "Error: obj has no external array data"),
        (.noSourceData, "Error: source has no external array data"),
        (.noDestData, "Error: dest has no external array data"),
        (.alreadyExists, "TypeError: object already has external array data"),
        (.overMaxLength, "RangeError: n > kMaxLength"),
        (.truncateOverMaxLength, "RangeError: truncate length is bigger than kMaxLength"),
        (.truncateOverLength, "RangeError: truncate length is bigger than current one"),
        (.unknownType("10"), "TypeError: unknown external array type: 10"),
    ]

    @Test("Node's texts are Node's, letter for letter", arguments: texts)
    func nodeTexts(_ example: (error: SmallocError, text: String)) {
        #expect("\(example.error)" == example.text)
    }

    @Test("each error has the class that the table gives its status, truncate's noData aside")
    func classes() {
        let errors: [SmallocError] = [
            .noData, .noDataToDispose, .noSourceData, .noDestData, .alreadyExists, .overMaxLength,
            .truncateOverMaxLength, .truncateOverLength, .unknownType("x"), .invalidName,
            .outOfRange("x"), .invalidArgument("x"), .malformed("x"), .frameTooLarge,
            .outOfMemory, .memoryLimit, .allocationLimit, .handleLimit,
        ]
        for error in errors {
            let entry = Status.table.first { $0.status == error.status }
            #expect(entry?.errorClass == error.errorClass, "\(error)")
        }
    }
}
