import Foundation
import TestSupport
import Testing

@Suite("Completions")
struct CompletionTests {
    private func isInstalled(_ shell: String) -> String? {
        ["/bin/", "/usr/bin/", "/usr/local/bin/"].map { $0 + shell }
            .first { FileManager.default.isExecutableFile(atPath: $0) }
    }

    @Test(
        "the scripts for bash, zsh and fish are made, and parse where there is such a shell",
        arguments: ["bash", "zsh", "fish"])
    func scripts(name: String) throws {
        let shell = try Shell()
        let script = try shell.output("cli --generate-completion-script \(name) | tee script")
        for word in ["hexdump", "address", "truncate"] { #expect(script.contains(word)) }
        guard isInstalled(name) != nil else { return }
        #expect(try shell.run("\(name) -n script") == Shell.Result(code: 0, output: "", errors: ""))
    }

    @Test("bash completes subcommands and allocations' names")
    func bash() throws {
        guard let program = isInstalled("bash") else { return }
        let shell = try Shell()
        let result = try shell.run(
            """
            cli alloc images/1 1; cli alloc images/2 1; cli alloc other 1
            # The script calls the tool by the first word of the line.
            tool=$(declare -f cli | grep -o "'[^']*'" | tr -d "'")
            source <(cli --generate-completion-script bash)
            complete_line() {
                COMP_WORDS=("$tool" "$@"); COMP_CWORD=$#; COMP_LINE="$tool $*"
                COMP_POINT=${#COMP_LINE}; COMPREPLY=()
                _smalloc-cli "$tool" "${@: -1}" "${@: -2:1}"
                echo "${COMPREPLY[@]}"
            }
            complete_line read images/
            complete_line trunc
            complete_line alloc q 4 uint8
            complete_line put x f --type f
            complete_line --json --timeout 3 read images/
            complete_line --address tcp:localhost:1 trunc
            complete_line --addr
            """, in: program)
        #expect(
            result.output == """
                images/1 images/2
                truncate
                uint8 uint8clamped
                float
                images/1 images/2
                truncate
                --address

                """, "\(result.errors)")
    }
}
