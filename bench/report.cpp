// SPDX-License-Identifier: MIT

#include "report.hpp"

#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iterator>

namespace bench {

namespace {

struct summary {
  double median = 0;
  double min = 0;
  double max = 0;
};

summary summarize(std::vector<double> values) {
  if (values.empty()) return {};
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  const double median = values.size() % 2 != 0 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
  return {median, values.front(), values.back()};
}

std::vector<double> values_of(const series& one, std::size_t metric) {
  std::vector<double> values;
  for (const auto& round : one.rounds) {
    if (round) values.push_back(round->values.at(metric));
  }
  return values;
}

/// A contestant's value over that of the first contestant in the same round.
std::vector<double> ratios_of(const series& one, const series& first, std::size_t metric) {
  std::vector<double> ratios;
  for (std::size_t i = 0; i < one.rounds.size() && i < first.rounds.size(); ++i) {
    if (!one.rounds[i] || !first.rounds[i] || first.rounds[i]->values.at(metric) == 0) continue;
    ratios.push_back(one.rounds[i]->values.at(metric) / first.rounds[i]->values.at(metric));
  }
  return ratios;
}

/// Three digits that count, with commas: 1,234,000; 12.3.
std::string number(double value) {
  char text[64];
  if (value == 0) return "0";
  const int digits = std::max(0, 2 - static_cast<int>(std::floor(std::log10(std::abs(value)))));
  if (digits > 0) {
    std::snprintf(text, sizeof text, "%.*f", std::min(digits, 4), value);
    return text;
  }
  const double unit = std::pow(10, std::floor(std::log10(std::abs(value))) - 2);
  std::snprintf(text, sizeof text, "%.0f", std::round(value / unit) * unit);
  std::string grouped = text;
  for (auto at = static_cast<std::ptrdiff_t>(grouped.size()) - 3; at > (value < 0 ? 1 : 0); at -= 3) {
    grouped.insert(static_cast<std::size_t>(at), ",");
  }
  return grouped;
}

std::string fixed(double value, int digits) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

/// For JSON strings and for XML.
std::string escaped(const std::string& text, bool json) {
  std::string result;
  for (const char c : text) {
    if (json && (c == '"' || c == '\\'))
      result += '\\', result += c;
    else if (!json && c == '&')
      result += "&amp;";
    else if (!json && c == '<')
      result += "&lt;";
    else
      result += c;
  }
  return result;
}

bool has_processor(const report& all) {
  for (const series& one : all.contestants) {
    for (const auto& round : one.rounds) {
      if (round && round->processor > 0) return true;
    }
  }
  return false;
}

std::string with_unit(const metric& one) { return one.unit.empty() ? one.name : one.name + ", " + one.unit; }

}  // namespace

std::string describe_machine() {
  std::string processor = "unknown processor";
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) {
      processor = line.substr(line.find(':') + 2);
      break;
    }
  }
  utsname system{};
  ::uname(&system);
  return processor + ", " + std::to_string(::sysconf(_SC_NPROCESSORS_ONLN)) + " processors; " + system.sysname + " " +
         system.release +
         "; "
#ifdef __clang__
         "clang " __clang_version__;
#else
         "g++ " __VERSION__;
#endif
}

std::string to_markdown(const report& all) {
  const std::vector<metric>& metrics = all.what->metrics;
  const bool processor = has_processor(all);
  std::string text = "| contestant |";
  std::string line = "|---|";
  for (const metric& one : metrics) {
    text += " " + with_unit(one) + ": median (min - max) | ratio |";
    line += "--:|--:|";
  }
  if (processor) {
    text += " processor, us each |";
    line += "--:|";
  }
  text += "\n" + line + "\n";
  for (const series& one : all.contestants) {
    text += "| " + one.name + " |";
    for (std::size_t m = 0; m < metrics.size(); ++m) {
      const std::vector<double> values = values_of(one, m);
      if (values.empty()) {
        text += " failed | |";
        continue;
      }
      const summary s = summarize(values);
      text += " **" + number(s.median) + "** (" + number(s.min) + " - " + number(s.max) + ") | ";
      const std::vector<double> ratios = ratios_of(one, all.contestants.front(), m);
      text += ratios.empty() ? "|" : fixed(summarize(ratios).median, 2) + " |";
    }
    if (processor) {
      std::vector<double> spent;
      for (const auto& round : one.rounds) {
        if (round) spent.push_back(round->processor);
      }
      text += " " + fixed(summarize(spent).median, 3) + " |";
    }
    text += "\n";
  }
  return text + "\n" + all.made_by + "\n";
}

std::string to_json(const report& all) {
  std::string text = "{\n  \"workload\": \"" + all.what->id + "\",\n  \"title\": \"" + escaped(all.what->title, true) +
                     "\",\n  \"made_by\": \"" + escaped(all.made_by, true) + "\",\n  \"metrics\": [";
  for (std::size_t m = 0; m < all.what->metrics.size(); ++m) {
    const metric& one = all.what->metrics[m];
    text += std::string(m == 0 ? "" : ", ") + "{\"name\": \"" + one.name + "\", \"unit\": \"" + one.unit +
            "\", \"more_is_better\": " + (one.more_is_better ? "true" : "false") + "}";
  }
  text += "],\n  \"contestants\": [";
  for (std::size_t c = 0; c < all.contestants.size(); ++c) {
    const series& one = all.contestants[c];
    text += std::string(c == 0 ? "" : ",") + "\n    {\"name\": \"" + escaped(one.name, true) + "\", \"rounds\": [";
    for (std::size_t r = 0; r < one.rounds.size(); ++r) {
      if (r != 0) text += ", ";
      if (!one.rounds[r]) {
        text += "null";
        continue;
      }
      text += "{\"values\": [";
      char value[64];
      for (std::size_t m = 0; m < one.rounds[r]->values.size(); ++m) {
        std::snprintf(value, sizeof value, "%s%.9g", m == 0 ? "" : ", ", one.rounds[r]->values[m]);
        text += value;
      }
      std::snprintf(value, sizeof value, "], \"processor_us\": %.6g}", one.rounds[r]->processor);
      text += value;
    }
    text += "]}";
  }
  return text + "\n  ]\n}\n";
}

std::string to_svg(const report& all) {
  constexpr int left = 330;
  constexpr int width = 460;
  constexpr int row = 24;
  constexpr int top = 56;
  const metric& shown = all.what->metrics.front();
  double most = 0;
  for (const series& one : all.contestants) most = std::max(most, summarize(values_of(one, 0)).max);
  if (most == 0) most = 1;
  const int height = top + row * static_cast<int>(all.contestants.size()) + 34;
  const auto at = [&](double value) { return left + static_cast<int>(value / most * width); };
  const auto label = [](int x, int y, const char* style, const std::string& words) {
    return "<text x=\"" + std::to_string(x) + "\" y=\"" + std::to_string(y) + "\" " + style + ">" +
           escaped(words, false) + "</text>\n";
  };
  const auto box = [](int x, int y, int w, int h, const char* colour) {
    return "<rect x=\"" + std::to_string(x) + "\" y=\"" + std::to_string(y) + "\" width=\"" + std::to_string(w) +
           "\" height=\"" + std::to_string(h) + "\" fill=\"" + colour + "\"/>\n";
  };
  std::string text = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"900\" height=\"" + std::to_string(height) +
                     "\" font-family=\"sans-serif\" font-size=\"12\">\n";
  text += box(0, 0, 900, height, "#ffffff");
  text += label(12, 22, "font-size=\"15\" font-weight=\"bold\"", all.what->id + ": " + all.what->title);
  text += label(12, 42, "fill=\"#555555\"",
                with_unit(shown) + (shown.more_is_better ? "; longer is better" : "; shorter is better") +
                    "; the line goes from the least to the most of all rounds");
  for (std::size_t c = 0; c < all.contestants.size(); ++c) {
    const series& one = all.contestants[c];
    const summary s = summarize(values_of(one, 0));
    const int y = top + row * static_cast<int>(c);
    const char* const colour = c == 0 ? "#888888" : one.name.starts_with("gtcp") ? "#2a7f62" : "#c8a45c";
    text += label(left - 8, y + 15, "text-anchor=\"end\"", one.name);
    text += box(left, y + 4, std::max(1, at(s.median) - left), row - 8, colour);
    text += box(at(s.min), y + row / 2 - 1, std::max(1, at(s.max) - at(s.min)), 2, "#222222");
    text += label(at(s.max) + 6, y + 16, "", s.median == 0 ? "failed" : number(s.median));
  }
  text += label(12, height - 10, "font-size=\"9\" fill=\"#777777\"", all.made_by);
  return text + "</svg>\n";
}

bool put_into_document(const std::string& file, const std::string& id, const std::string& table) {
  std::ifstream in(file, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(in), {}};
  in.close();
  const std::string begin = "<!-- " + id + " begin -->\n";
  const std::size_t from = text.find(begin);
  const std::size_t to = text.find("<!-- " + id + " end -->");
  if (from == std::string::npos || to == std::string::npos || to < from) return false;
  text.replace(from + begin.size(), to - from - begin.size(), table);
  std::ofstream(file, std::ios::binary) << text;
  return true;
}

}  // namespace bench
