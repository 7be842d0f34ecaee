#ifndef SLUICE_TOOLS_CONSOLE_TABLE_H_
#define SLUICE_TOOLS_CONSOLE_TABLE_H_

// Tables of text for people.

#include <string>
#include <vector>

namespace sluice::console {

enum class Align { kLeft, kRight };

// Rows under a header, columns padded to their widest cell, two spaces between.
class Table {
 public:
  struct Column {
    std::string title;
    Align align = Align::kLeft;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  // Missing cells are empty; cells beyond the columns are dropped.
  void Add(std::vector<std::string> cells) {
    rows_.push_back(std::move(cells));
  }
  bool empty() const { return rows_.empty(); }

  // The header and the rows, each line starting with `indent` spaces and ending
  // with a newline, without trailing spaces.
  std::string Print(int indent = 0) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace sluice::console

#endif  // SLUICE_TOOLS_CONSOLE_TABLE_H_
