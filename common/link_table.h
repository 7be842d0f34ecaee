#ifndef SLUICE_COMMON_LINK_TABLE_H_
#define SLUICE_COMMON_LINK_TABLE_H_

// How fast the links of one kind of cluster are: what the simulator and the
// planner's estimates need of a machine. All nodes are alike. Rates are bytes
// per second in one direction; both directions run at once.

#include <cstdint>
#include <string>

namespace sluice {

struct LinkTable {
  std::string name;
  std::string comment;  // where the numbers come from
  int32_t ranks_per_node = 1;
  // Cards of a node; ranks share them in order and evenly: with 8 ranks and 2
  // cards, ranks 0 to 3 of a node use card 0.
  int32_t cards_per_node = 1;
  double device_copy_rate = 1e12;  // inside a rank's memory: read and written
  double rank_rate = 1e11;         // a rank's link to the others of its node
  double card_rate = 1e10;         // a network card
  // What crosses between nodes passes the rank's link too (PCIe), or a way of
  // its own (NVLink beside a card).
  bool cards_behind_rank_link = false;
  double node_latency = 0;     // seconds before a message in a node flows
  double network_latency = 0;  // and between nodes
  // The network: nodes in order, so many to a switch (0 = all on one). With
  // rails, each switch has only cards of one number: a message between cards
  // of different numbers leaves its switch.
  int32_t nodes_per_switch = 0;
  bool rails = false;
  // The cards of a switch together, over the switch's way up. 1 = everything
  // fits.
  double oversubscription = 1;
};

}  // namespace sluice

#endif  // SLUICE_COMMON_LINK_TABLE_H_
