// Package benchsuite measures a fixed list of loads against one or several brokers
// in turns, keeps every run as a JSON file, and makes a table and a chart of such
// files.
//
// What must hold: in each round of a row every broker has its turn, and another one
// begins, so that what changes on the machine changes for all; a table is made of
// nothing but the files; a run that failed is a file too, and is shown.
//
// All of it runs in the goroutine that calls it.
package benchsuite
