#include "tools/console/table.h"

#include <algorithm>

namespace sluice::console {
namespace {

// Code points, so that names in any script keep their columns in order.
size_t Width(const std::string& text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; }));
}

}  // namespace

std::string Table::Print(int indent) const {
  std::vector<size_t> widths;
  widths.reserve(columns_.size());
  for (const Column& column : columns_) widths.push_back(Width(column.title));
  for (const std::vector<std::string>& row : rows_) {
    for (size_t c = 0; c < std::min(row.size(), widths.size()); ++c) {
      widths[c] = std::max(widths[c], Width(row[c]));
    }
  }
  std::string out;
  const auto line = [&](const auto& cell) {
    std::string text(static_cast<size_t>(indent), ' ');
    for (size_t c = 0; c < columns_.size(); ++c) {
      const std::string& value = cell(c);
      const std::string padding(widths[c] - Width(value), ' ');
      if (c > 0) text += "  ";
      text += columns_[c].align == Align::kRight ? padding + value
                                                 : value + padding;
    }
    text.erase(text.find_last_not_of(' ') + 1);
    out += text + "\n";
  };
  line([&](size_t c) -> const std::string& { return columns_[c].title; });
  static const std::string kNothing;
  for (const std::vector<std::string>& row : rows_) {
    line([&](size_t c) -> const std::string& {
      return c < row.size() ? row[c] : kNothing;
    });
  }
  return out;
}

}  // namespace sluice::console
