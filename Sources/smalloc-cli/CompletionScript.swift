// The scripts for the shells' completions: those of the argument parser, but for the places where
// names of allocations come in. A name is what another client chose: a shell must never take it for
// anything but text. The parser's scripts for bash expand candidates as words, and so run what
// stands in them; all three hand the word on as typed, quotes and all.

import ArgumentParser

/// The completion scripts.
enum CompletionScript {
    /// The script that a command line asks for; nil if it asks for none, or in a way that the
    /// parser has to judge.
    static func text(askedBy words: [String]) -> String? {
        let option = "--generate-completion-script"
        let name: String
        if words.count == 2, words[0] == option {
            name = words[1]
        } else if words.count == 1, words[0].hasPrefix(option + "=") {
            name = String(words[0].dropFirst(option.count + 1))
        } else {
            return nil
        }
        guard let shell = CompletionShell(rawValue: name) else { return nil }
        return text(for: shell)
    }

    /// The script for a shell.
    static func text(for shell: CompletionShell) -> String {
        let generated = SmallocCLI.completionScript(for: shell)
        return switch shell {
        case .bash: bash(generated)
        case .zsh: replacing("__smalloc-cli_custom_complete() {", in: generated, with: zshNames)
        case .fish: fish(generated)
        default: generated
        }
    }

    /// Replaces a function of a script, which ends with a line of `}`.
    private static func replacing(
        _ head: String, in script: String, with function: String
    ) -> String {
        var lines = script.split(separator: "\n", omittingEmptySubsequences: false)
        guard let first = lines.firstIndex(where: { $0 == head }),
            let last = lines[first...].firstIndex(where: { $0 == "}" || $0 == "end" })
        else { return script }
        lines.replaceSubrange(first...last, with: [Substring(function)])
        return lines.joined(separator: "\n")
    }

    // MARK: bash

    private static func bash(_ generated: String) -> String {
        var script = replacingText(
            "__smalloc-cli_add_completions -W \"$(__smalloc-cli_custom_complete ",
            in: generated, with: "__smalloc-cli_add_names \"$(__smalloc-cli_custom_complete ")
        script = replacingText(
            "complete -o filenames -F _smalloc-cli smalloc-cli", in: script,
            with: bashNames + "\ncomplete -o filenames -F __smalloc-cli_line smalloc-cli")
        return script
    }

    private static func replacingText(
        _ old: String, in script: String, with new: String
    ) -> String {
        var rest = script[...]
        var result = ""
        while let found = rest.firstRange(of: old) {
            result += rest[..<found.lowerBound] + new
            rest = rest[found.upperBound...]
        }
        return result + rest
    }

    /// Reads the line as bash does, but for its substitutions, and quotes names as the word is.
    ///
    /// bash itself hands over words that it has cut at each `:` and `=`, quotes and all.
    private static let bashNames = #"""
        # What is completed: the last word as typed, what it means, and the quote open in it.
        __smalloc-cli_read_line() {
            local LC_ALL=C
            local -r line="${COMP_LINE:0:COMP_POINT}"
            local -i index
            local character
            local is_word=false
            line_words=()
            line_word=''
            line_typed=''
            line_quote=''
            for ((index = 0; index < ${#line}; index++)); do
                character="${line:index:1}"
                if [[ -z "${line_quote}" && "${character}" == [$' \t\n'] ]]; then
                    "${is_word}" && line_words+=("${line_word}")
                    is_word=false
                    line_word=''
                    line_typed=''
                    continue
                fi
                is_word=true
                line_typed+="${character}"
                if [[ "${line_quote}" == "'" ]]; then
                    if [[ "${character}" == "'" ]]; then
                        line_quote=''
                    else
                        line_word+="${character}"
                    fi
                elif [[ "${character}" == '\' ]]; then
                    ((++index))
                    line_typed+="${line:index:1}"
                    if [[ -n "${line_quote}" && "${line:index:1}" != [\"\$\`\\] ]]; then
                        line_word+='\'
                    fi
                    line_word+="${line:index:1}"
                elif [[ "${character}" == '"' ]]; then
                    [[ -n "${line_quote}" ]] && line_quote='' || line_quote='"'
                elif [[ -z "${line_quote}" && "${character}" == "'" ]]; then
                    line_quote="'"
                else
                    line_word+="${character}"
                fi
            done
            line_words+=("${line_word}")
        }

        # Text as it has to stand in the word that is completed.
        __smalloc-cli_quote() {
            local text="${1}"
            local -r single="'\\''" bang="\"'!'\"" escape='\'
            case "${line_quote}" in
            "'")
                quoted="${text//\'/"${single}"}"
                ;;
            '"')
                text="${text//"${escape}"/"${escape}${escape}"}"
                text="${text//\"/"${escape}\""}"
                text="${text//\$/"${escape}\$"}"
                text="${text//\`/"${escape}\`"}"
                quoted="${text//\!/"${bang}"}"
                ;;
            *)
                printf -v quoted %q "${text}"
                ;;
            esac
        }

        # Names, one a line: matched and inserted as text, never expanded.
        __smalloc-cli_add_names() {
            local name
            compopt +o filenames 2>/dev/null
            are_names=true
            while IFS='' read -r name; do
                [[ -n "${name}" && "${name}" == "${cur}"* ]] && COMPREPLY+=("${name}")
            done <<<"${1}"
        }

        __smalloc-cli_line() {
            local -a line_words
            local line_word line_typed line_quote
            __smalloc-cli_read_line
            # readline puts what is chosen in the place of ${2}, which may be the end of the word.
            local -r replaced="${2}"
            local are_names=false
            local -a COMP_WORDS=("${line_words[@]}")
            local -i COMP_CWORD="$((${#line_words[@]} - 1))"
            local COMP_LINE="${line_words[*]}"
            local -i COMP_POINT="${#COMP_LINE}"
            local last=''
            ((COMP_CWORD > 0)) && last="${line_words[COMP_CWORD - 1]}"
            _smalloc-cli "${1}" "${line_word}" "${last}"

            # What stands before it stays, and is no part of a candidate.
            local kept=''
            if [[ -z "${line_quote}" && "${line_typed}" == *"${replaced}" ]]; then
                local -i size="$((${#line_typed} - ${#replaced}))"
                COMP_LINE="${line_typed:0:size}"
                COMP_POINT="${size}"
                local -r meant="${line_word}"
                __smalloc-cli_read_line
                kept="${line_word}"
                [[ "${meant}" == "${kept}"* ]] || kept=''
            fi
            local -i index
            local text quoted
            for index in "${!COMPREPLY[@]}"; do
                text="${COMPREPLY[index]}"
                text="${text#"${kept}"}"
                if "${are_names}"; then
                    __smalloc-cli_quote "${text}"
                    text="${quoted}"
                fi
                COMPREPLY[index]="${text}"
            done
        }
        """#

    // MARK: zsh

    /// Asks with what the words mean, and gives names as they are: the shell quotes them.
    private static let zshNames = #"""
        __smalloc-cli_custom_complete() {
            # Without this the shell would not quote an exclamation mark.
            setopt localoptions banghist
            local word="${PREFIX}"
            if [[ -z "${compstate[quote]}" ]]; then
                word="${(Q)word}"
            elif [[ "${compstate[quote]}" == \" ]]; then
                word="${(Q):-\"${word}\"}"
            fi
            local -a asked=("${(@Q)command_line[1,current_word_index]}" "${word}")
            local -a completions
            completions=("${(@f)"$("${command_name}" "${@[1,-2]}" "${#word}" "${asked[@]}")"}")
            completions=("${(@)completions:#}")
            (( ${#completions} )) && compadd -- "${completions[@]}"
        }
        """#

    // MARK: fish

    private static func fish(_ generated: String) -> String { generated }
}
