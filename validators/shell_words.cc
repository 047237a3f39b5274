#include "validators/shell_words.h"

namespace refute {

std::string shell_word(std::string_view word) {
  constexpr std::string_view kPlain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-";
  if (!word.empty() && word.find_first_not_of(kPlain) == word.npos) return std::string(word);
  std::string quoted = "'";
  for (const char letter : word) {
    if (letter == '\'') {
      quoted += "'\\''";
    } else {
      quoted += letter;
    }
  }
  return quoted + "'";
}

std::string run_command(const Contract& contract, const FalsifierBlock& block) {
  return "refute run " + shell_word(contract.source.path()) + " --filter " +
         shell_word(block.id.text);
}

}  // namespace refute
