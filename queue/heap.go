package queue

import (
	"container/heap"
	"math/rand/v2"
)

func defaultRand() float64 { return rand.Float64() }

// A jobHeap holds jobs by the time of their next attempt.
type jobHeap []*job

func (h *jobHeap) push(j *job) { heap.Push((*byTime)(h), j) }
func (h *jobHeap) pop() *job   { return heap.Pop((*byTime)(h)).(*job) }
func (h *jobHeap) fix()        { heap.Init((*byTime)(h)) }

// remove takes j out, if it is there.
func (h *jobHeap) remove(j *job) {
	if j.heap >= 0 {
		heap.Remove((*byTime)(h), j.heap)
	}
}

// byTime implements heap.Interface.
type byTime []*job

func (h byTime) Len() int { return len(h) }

func (h byTime) Less(i, k int) bool { return h[i].next.Before(h[k].next) }

func (h byTime) Swap(i, k int) {
	h[i], h[k] = h[k], h[i]
	h[i].heap, h[k].heap = i, k
}

func (h *byTime) Push(x any) {
	j := x.(*job)
	j.heap = len(*h)
	*h = append(*h, j)
}

func (h *byTime) Pop() any {
	last := len(*h) - 1
	j := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	j.heap = -1
	return j
}
